"""Runs `nearcast replay` on every log that is there and prints bench/replay.sh's tables as Markdown."""

import json
import pathlib
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


def replay(nearcast, log, flags):
    command = [nearcast, "replay", str(log), "--prefetch", "none,nearcast", "--placement", "none", "--seed", "1",
               "--warmup", "0", "--json", *flags]
    print("$", " ".join(command), file=sys.stderr)
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["cells"]


def error_of(bins):
    """Expected calibration error: mean distance of claim and truth over bins, by count."""
    count = sum(b["count"] for b in bins)
    return sum(abs(b["claimed"] - b["used"]) for b in bins) / count if count else 0.0


def ideal(nearcast, logs):
    print("| log, cache | no prefetching | at most +5 % (extra fetch) | at most +25 % (extra fetch) | "
          "calibration error | requests/s |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, cache, flags in ROWS:
        log = logs / f"{name}.parquet"
        if not log.exists():
            continue
        none, tight, wide = replay(nearcast, log, ["--cache", cache, "--budget", "0.05,0.25", "--instant",
                                                   "--unit-size", *flags])
        cells = [f"{none['miss_ratio']:.4f}"]
        cells += [f"{c['miss_ratio']:.4f} ({c['extra_fetch_ratio'] * 100:+.1f} %)" for c in (tight, wide)]
        cells.append(f"{error_of(wide['account']['calibration']['bins']):.3f}")
        cells.append(f"{wide['events_per_second']:.0f}")
        print("|", " ".join([name, f"{float(cache) * 100:g} %", *flags]), "|", " | ".join(cells), "|", flush=True)


def real(nearcast, logs):
    print("\n| log, cache | mean ms | p99 ms | extra fetch |")
    print("| --- | --- | --- | --- |")
    for name, cache, flags in ROWS:
        log = logs / f"{name}.parquet"
        if not log.exists():
            continue
        none, wide = replay(nearcast, log, ["--cache", cache, "--budget", "0.25", *flags])
        change = lambda what: (
            f"{none['latency_ms'][what]:.2f} -> {wide['latency_ms'][what]:.2f} "
            f"({(wide['latency_ms'][what] / none['latency_ms'][what] - 1) * 100:+.1f} %)")
        print("|", " ".join([name, f"{float(cache) * 100:g} %", *flags]), "|", change("mean"), "|", change("p99"),
              "|", f"{wide['extra_fetch_ratio'] * 100:+.1f} %", "|", flush=True)


if __name__ == "__main__":
    ideal(sys.argv[2], pathlib.Path(sys.argv[1]))
    real(sys.argv[2], pathlib.Path(sys.argv[1]))
