"""Prints what bench/train.sh measured: `compare.py FOLDER THREADS`."""

import json
import pathlib
import statistics
import sys


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def main():
    folder, threads = pathlib.Path(sys.argv[1]), sys.argv[2]
    print(f"events/s on {threads} threads")
    print(f"{'':>9}  {'':>6}  {'median of slices':^26}  {'best slice':^26}")
    columns = f"{'nearcast':>9} {'pytorch':>9} {'ratio':>6}"
    print(f"{'keys':>9}  {'tokens':>6}  {columns}  {columns}  fastest variant")
    names = (tuple(map(int, path.stem.split("-"))) for path in folder.glob("*.batches"))
    for keys, tokens in sorted(names, key=lambda name: (name[1], name[0])):
        ours = [line["rows"][0] for line in lines(folder / f"{keys}-{tokens}.nearcast")]
        theirs = [line["variants"] for line in lines(folder / f"{keys}-{tokens}.pytorch")]
        fastest = max(theirs[0], key=lambda name: max(each[name]["best"] for each in theirs))
        medians = (
            statistics.median(row["events_per_second"] for row in ours),
            statistics.median(each[fastest]["events_per_second"] for each in theirs),
        )
        bests = (
            max(row["events_per_second"] * row["step_ms"] / row["step_ms_lowest"] for row in ours),
            max(each[fastest]["best"] for each in theirs),
        )
        cells = "  ".join(f"{a:>9.0f} {b:>9.0f} {a / b:>6.2f}" for a, b in (medians, bests))
        print(f"{keys:>9}  {tokens:>6}  {cells}  {fastest}")


if __name__ == "__main__":
    main()
