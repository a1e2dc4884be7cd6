#!/usr/bin/env bash
# Replays a cluster of many nodes and prints what that takes, as a Markdown table: without prefetching and with the engine,
# each node for itself and with homes by hashing.
#
#   bench/scale.sh [NEARCAST]
#
# NEARCAST is the binary, target/release/nearcast when not given. REGIONS (200, one node each, across all time zones),
# REQUESTS (500000), KEYS (50000) and CACHE (0.01, of all distinct bytes, per node) can be set. Links between regions are the
# built-in topology's. The log is made on the way, by its seed. About a gigabyte of memory, and some minutes on one core.
set -euo pipefail
nearcast=${1:-$(dirname "$0")/../target/release/nearcast}
exec python3 "$(dirname "$0")/scale.py" replay "$nearcast"
