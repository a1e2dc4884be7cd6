#!/usr/bin/env bash
# Prints what placement strategies make of logs from several regions, as Markdown tables.
#
#   bench/placement.sh LOGS [NEARCAST]
#
# LOGS is a folder with news.parquet and checkins.parquet; logs that are not there are left out. NEARCAST is the binary,
# target/release/nearcast when not given. A synthetic log of six regions across time zones is made on the way, and played
# with the round trips of bench/placement.toml; the others with the built-in ones. Every node has the same capacity under
# every strategy. Each baseline is played with half, nine tenths and all of it for placed replicas (the rest is
# pull-through) and shown at the share that gave it the least mean latency in hindsight; gapa has its default share.
set -euo pipefail
logs=${1:?usage: bench/placement.sh LOGS [NEARCAST]}
nearcast=${2:-$(dirname "$0")/../target/release/nearcast}
exec python3 "$(dirname "$0")/placement.py" "$logs" "$nearcast"
