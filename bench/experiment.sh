#!/usr/bin/env bash
# Prints what the experiments' statistics and designs are worth, from seeds alone: some ten minutes on two idle cores.
#
#   bench/experiment.sh [SEEDS]
#
# First A/A: of 2,000 runs with 50 looks each, how many find something where there is nothing. Then, over SEEDS logs (200
# when not given), what each design makes of a challenger that fetches junk and of one that is truly better, on caches
# that are the node's production index.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo run --quiet --release -p nearcast-experiment --example false_alarms
cargo run --quiet --release -p nearcast-experiment --example cache_cells -- "${1:-200}"
