"""Prints what bench/train.sh measured: `compare.py FOLDER THREADS`."""

import json
import pathlib
import statistics
import sys


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def main():
    folder, threads = pathlib.Path(sys.argv[1]), sys.argv[2]
    print(f"events/s on {threads} threads, medians over rounds")
    print(f"{'keys':>9}  {'tokens':>6}  {'nearcast':>9}  {'pytorch':>9}  {'ratio':>5}  {'lowest':>6}  fastest variant")
    names = (tuple(map(int, path.stem.split("-"))) for path in folder.glob("*.batches"))
    for keys, tokens in sorted(names, key=lambda name: (name[1], name[0])):
        ours = [line["rows"][0]["events_per_second"] for line in lines(folder / f"{keys}-{tokens}.nearcast")]
        rounds = [line["variants"] for line in lines(folder / f"{keys}-{tokens}.pytorch")]
        rates = {name: [each[name]["events_per_second"] for each in rounds] for name in rounds[0]}
        best = max(rates, key=lambda name: statistics.median(rates[name]))
        ratios = [a / b for a, b in zip(ours, rates[best])]
        print(
            f"{keys:>9}  {tokens:>6}  {statistics.median(ours):>9.0f}  {statistics.median(rates[best]):>9.0f}"
            f"  {statistics.median(ratios):>5.2f}  {min(ratios):>6.2f}  {best}"
        )


if __name__ == "__main__":
    main()
