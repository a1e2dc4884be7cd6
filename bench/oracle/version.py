"""Reads a model version with public tools alone: argument 1 is its folder, standard input has the scores to agree with.

The card's own code is run as it stands there, so that what a reader copies is what was tested."""
import json
import os
import re
import sys

import pyarrow.parquet as parquet

os.chdir(sys.argv[1])
expected = json.load(sys.stdin)
code = re.search(r"```python\n(.*?)```", open("MODEL_CARD.md").read(), re.S).group(1)
assert len(code.splitlines()) <= 32, "the scorer is no longer short"
card = {}
exec(code, card)

assert card["keys"] == expected["keys"]
worst = 0.0
for case in expected["cases"]:
    found = card["scores"](case["history"])
    assert len(found) == len(case["scores"])
    worst = max(worst, max(abs(float(a) - b) for a, b in zip(found, case["scores"])))
assert worst < 1e-5, f"scores differ by {worst}"

coaccess = parquet.read_table("coaccess.parquet")
assert coaccess.column_names == ["scope", "key", "occurrences", "successor", "count"], coaccess.column_names
assert coaccess.num_rows > 0
table = parquet.read_table("metrics.parquet").to_pylist()
metrics = json.load(open("metrics.json"))
found = {row["name"]: row["value"] for row in table if row["name"].startswith("test/")}
best = metrics["evaluation"]["next_key"]["methods"]["model"]["without_repeats"]["mrr_20"]
assert found["test/next_key/methods/model/without_repeats/mrr_20"] == best
losses = [row["value"] for row in table if row["name"] == "train/loss"]
assert losses == [epoch["loss"] for epoch in metrics["epochs"]], losses
assert "<svg" in open("report.html").read()
print(f"scores agree within {worst:.1e}")
