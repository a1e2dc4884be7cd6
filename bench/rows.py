"""What bench/replay.py and bench/ablation.py have in common: which logs they play, and how."""

import json
import subprocess
import sys

# Log, cache as a share of distinct keys, further flags.
ROWS = [
    ("block-io", "0.01", []),
    ("block-io", "0.1", []),
    ("web-1995", "0.1", ["--single-region"]),
    ("web-1995", "0.1", []),
    ("shop", "0.01", []),
    ("shop", "0.1", []),
    ("news", "0.01", []),
    ("news", "0.03", []),
    ("checkins", "0.1", []),
    ("db-web12", "0.1", ["--without", "stride"]),
    ("db-web12", "0.1", []),
    ("llm-blocks", "0.1", []),
]

# Without sizes and transfer times, as other simulators see the world.
IDEAL = ["--instant", "--unit-size"]


def rows(logs):
    """Name for the table, path and flags of each row whose log is there."""
    for name, cache, flags in ROWS:
        log = logs / f"{name}.parquet"
        if log.exists():
            yield " ".join([name, f"{float(cache) * 100:g} %", *flags]), log, ["--cache", cache, *flags]


def replay(nearcast, log, flags):
    """The cells of a replay, online from an empty state over the whole log: first without prefetching, then with."""
    command = [nearcast, "replay", str(log), "--prefetch", "none,nearcast", "--placement", "none", "--seed", "1",
               "--warmup", "0", "--json", *flags]
    print("$", " ".join(command), file=sys.stderr)
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["cells"]


def header(columns):
    print("|", " | ".join(columns), "|")
    print("|", " | ".join("---" for _ in columns), "|", flush=True)


def row(cells):
    print("|", " | ".join(cells), "|", flush=True)
