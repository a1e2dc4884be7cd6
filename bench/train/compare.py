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
    print(f"{'':>9}  {'':>6}  {'median of slices':^26}  {'best slice':^26}  {'per processor second':^26}")
    columns = f"{'nearcast':>9} {'pytorch':>9} {'ratio':>6}"
    print(f"{'keys':>9}  {'tokens':>6}  {columns}  {columns}  {columns}  fastest variant")
    names = (tuple(map(int, path.stem.split("-"))) for path in folder.glob("*.batches"))
    for keys, tokens in sorted(names, key=lambda name: (name[1], name[0])):
        ours = [line["rows"][0] for line in lines(folder / f"{keys}-{tokens}.nearcast")]
        theirs = [line["variants"] for line in lines(folder / f"{keys}-{tokens}.pytorch")]
        processor = {
            name: statistics.median(each[name]["events_per_processor_second"] for each in theirs) for name in theirs[0]
        }
        fastest = max(processor, key=processor.get)
        medians = (
            statistics.median(row["events_per_second"] for row in ours),
            statistics.median(each[fastest]["events_per_second"] for each in theirs),
        )
        bests = (
            max(row["events_per_second"] * row["step_ms"] / row["step_ms_lowest"] for row in ours),
            max(each[fastest]["best"] for each in theirs),
        )
        processors = (
            statistics.median(
                row["events_per_second"] * row["step_ms"] / row["step_processor_ms"] for row in ours
            ),
            processor[fastest],
        )
        cells = "  ".join(f"{a:>9.0f} {b:>9.0f} {a / b:>6.2f}" for a, b in (medians, bests, processors))
        print(f"{keys:>9}  {tokens:>6}  {cells}  {fastest}")


if __name__ == "__main__":
    main()
