"""Runs `nearcast replay` with one part left out at a time and prints bench/ablation.sh's table as Markdown."""

import pathlib
import sys

from rows import IDEAL, header, replay, row, rows

PARTS = ["client", "region", "demand", "stride", "habit", "gate", "probation"]


def ablation(nearcast, logs):
    header(["log, cache", "no prefetching", "all", *(f"without {part}" for part in PARTS), "lru, no prefetching",
            "lru"])
    won = lambda cell: f"{cell['miss_ratio']:.4f} ({cell['extra_fetch_ratio'] * 100:+.1f} %)"
    for name, log, flags in rows(logs):
        play = lambda *more: replay(nearcast, log, [*flags, "--budget", "0.25", *IDEAL, *more])
        none, full = play()
        cells = [f"{none['miss_ratio']:.4f}", won(full)]
        for part in PARTS:
            # Nothing to compare where the row does without it anyway.
            cells.append("" if part in flags else won(play("--without", part)[1]))
        none, lru = play("--policy", "lru")
        row([name, *cells, f"{none['miss_ratio']:.4f}", won(lru)])


if __name__ == "__main__":
    ablation(sys.argv[2], pathlib.Path(sys.argv[1]))
