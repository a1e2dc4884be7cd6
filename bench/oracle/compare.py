#!/usr/bin/env python3
"""Compares the eviction policies of `nearcast replay` with those of libCacheSim on one log.

    python3 -m venv target/venv && target/venv/bin/pip install -r bench/oracle/requirements.txt
    target/venv/bin/python bench/oracle/compare.py target/release/nearcast LOG --cache 0.01,0.1

Every region has a cache of its own, objects count as one byte, prefetching is off and transfers take no time: the
log is exported once per region (object numbers shuffled, so that they tell nothing), libCacheSim plays each export,
and its misses are added up. Prints one line per cache size and policy; the exit code is 1 when one of them deviates by
a single miss. W-TinyLFU is shown for comparison only: libCacheSim's is not the paper's, and misses everything in
caches of less than a hundred objects.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import libcachesim

# Name here, class there.
POLICIES = {
    "lru": "LRU",
    "fifo": "FIFO",
    "belady": "Belady",
    "sieve": "Sieve",
    "s3-fifo": "S3FIFO",
    "arc": "ARC",
    "w-tinylfu": "WTinyLFU",
}
SHOWN_ONLY = {"w-tinylfu"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nearcast", help="the binary")
    parser.add_argument("log")
    parser.add_argument("--cache", default="0.1", help="shares of the distinct keys, per region; separated by commas")
    parser.add_argument("--policy", default=",".join(POLICIES), help="separated by commas")
    parser.add_argument("--single-region", action="store_true", help="one cache for all regions")
    arguments = parser.parse_args()
    policies = arguments.policy.split(",")

    cells = replay(arguments, policies)
    with tempfile.TemporaryDirectory() as folder:
        traces = list(export(arguments, Path(folder)))
        deviations = [compare(cell, traces) for cell in cells]
    return 1 if any(deviations) else 0


def replay(arguments: argparse.Namespace, policies: list[str]) -> list[dict]:
    """What `nearcast replay` found: one cell for each cache size and policy."""
    flags = ["--prefetch", "none", "--instant", "--unit-size", "--warmup", "0", "--no-timing"]
    flags += ["--policy", ",".join(policies), "--cache", arguments.cache]
    flags += ["--single-region"] if arguments.single_region else []
    return nearcast(arguments.nearcast, "replay", arguments.log, *flags)["cells"]


def export(arguments: argparse.Namespace, folder: Path):
    """Paths and lengths of one trace per cache."""
    regions = [None]
    if not arguments.single_region:
        regions = [region["name"] for region in nearcast(arguments.nearcast, "profile", arguments.log)["regions"]]
    for number, region in enumerate(regions):
        trace = folder / f"{number}.oracleGeneral"
        flags = ["--only-region", region] if region is not None else []
        report = nearcast(
            arguments.nearcast, "import", "--to-oracle-general", arguments.log, *flags, "-o", str(trace)
        )
        yield trace, report["requests"]


def compare(cell: dict, traces: list[tuple[Path, int]]) -> bool:
    """Prints one line; returns whether the policies deviate."""
    name = POLICIES[cell["policy"]]
    misses = sum(play(name, cell["cache_bytes"], *trace) for trace in traces)
    deviates = cell["misses"] != misses and cell["policy"] not in SHOWN_ONLY
    print(
        f"{cell['policy']:10} {cell['cache']:>6} {cell['misses'] / cell['requests']:.4f}"
        f" libCacheSim {misses / cell['requests']:.4f} ({cell['misses'] - misses:+} misses)"
        + (" DEVIATES" if deviates else "")
    )
    return deviates


def play(name: str, cache_objects: int, trace: Path, requests: int) -> int:
    """libCacheSim's misses over one trace."""
    reader = libcachesim.TraceReader(
        trace=str(trace),
        trace_type=libcachesim.TraceType.ORACLE_GENERAL_TRACE,
        reader_init_params=libcachesim.ReaderInitParam(ignore_obj_size=True),
    )
    # Its tables grow by themselves; starting at their default of 2^24 entries takes longer than the whole trace.
    cache = getattr(libcachesim, name)(cache_size=cache_objects, hashpower=12, reader=reader)
    miss_ratio, _ = cache.process_trace(reader)
    return round(miss_ratio * requests)


def nearcast(binary: str, *arguments: str) -> dict:
    """Runs a command and returns its document."""
    result = subprocess.run([binary, *arguments, "--json"], capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"nearcast {' '.join(arguments)}: {result.stderr.strip()}")
    return json.loads(result.stdout)


if __name__ == "__main__":
    sys.exit(main())
