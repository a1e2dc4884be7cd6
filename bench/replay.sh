#!/usr/bin/env bash
# Prints what the default policy and the engine make of each log, in two tables.
#
#   bench/replay.sh LOGS [NEARCAST]
#
# LOGS is a folder with block-io.parquet, web-1995.parquet and so on; logs that are not there are left out. NEARCAST is
# the binary, target/release/nearcast when not given. Takes about ten minutes on one core.
#
# The first table ignores sizes and time (--unit-size --instant), online from an empty state over the whole log: object
# miss ratio without prefetching and at extra fetches of at most 5 % and 25 %. The second keeps both: what mean and p99
# latency change by at 25 %. db-web12 is played with and without the stride source: its page numbers turn out to be a
# permutation of the order of first appearance, which a stride can read and no real log would offer.
set -euo pipefail
logs=${1:?usage: bench/replay.sh LOGS [NEARCAST]}
nearcast=${2:-$(dirname "$0")/../target/release/nearcast}
exec python3 "$(dirname "$0")/replay.py" "$logs" "$nearcast"
