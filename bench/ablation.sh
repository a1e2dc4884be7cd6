#!/usr/bin/env bash
# Prints what each part of the engine is worth: miss ratio and extra fetch with all of it, and with one part left out at
# a time.
#
#   bench/ablation.sh LOGS [NEARCAST]
#
# LOGS and NEARCAST are those of bench/replay.sh, and so are the rows: sizes and time are ignored, online from an empty
# state over the whole log, at extra fetches of at most 25 %. Without a source its candidates are missing; without the
# gate a candidate is as probable as its most convinced source says; without probation prefetched segments take room as
# demanded ones do. The last columns keep every part and evict by lru instead. Nine replays a row.
set -euo pipefail
logs=${1:?usage: bench/ablation.sh LOGS [NEARCAST]}
nearcast=${2:-$(dirname "$0")/../target/release/nearcast}
exec python3 "$(dirname "$0")/ablation.py" "$logs" "$nearcast"
