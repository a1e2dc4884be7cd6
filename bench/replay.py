"""Runs `nearcast replay` on every log that is there and prints bench/replay.sh's tables as Markdown."""

import pathlib
import sys

from rows import IDEAL, header, replay, row, rows


def ideal(nearcast, logs):
    header(["log, cache", "no prefetching", "at most +5 % (extra fetch)", "at most +25 % (extra fetch)",
            "calibration error", "requests/s"])
    for name, log, flags in rows(logs):
        none, tight, wide = replay(nearcast, log, [*flags, "--budget", "0.05,0.25", *IDEAL])
        cells = [f"{none['miss_ratio']:.4f}"]
        cells += [f"{c['miss_ratio']:.4f} ({c['extra_fetch_ratio'] * 100:+.1f} %)" for c in (tight, wide)]
        # None when no order ended.
        error = wide["calibration_error"]
        cells.append("" if error is None else f"{error:.3f}")
        cells.append(f"{wide['events_per_second']:.0f}")
        row([name, *cells])


def real(nearcast, logs):
    print()
    header(["log, cache", "mean ms", "p99 ms", "extra fetch"])
    for name, log, flags in rows(logs):
        none, wide = replay(nearcast, log, [*flags, "--budget", "0.25"])
        change = lambda what: (
            f"{none['latency_ms'][what]:.2f} -> {wide['latency_ms'][what]:.2f} "
            f"({(wide['latency_ms'][what] / none['latency_ms'][what] - 1) * 100:+.1f} %)")
        row([name, change("mean"), change("p99"), f"{wide['extra_fetch_ratio'] * 100:+.1f} %"])


if __name__ == "__main__":
    ideal(sys.argv[2], pathlib.Path(sys.argv[1]))
    real(sys.argv[2], pathlib.Path(sys.argv[1]))
