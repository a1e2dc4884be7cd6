#!/usr/bin/env bash
# Prints how fast vocabulary, sessions and co-access are built from logs, by stage, and the most memory held.
#
#   bench/features.sh LOG…
#   bench/features.sh --rows N [FOLDER]
#
# The second form synthesizes a log of N requests over thirty days into FOLDER (a temporary one when not given; 14 bytes a
# request; a log that lies there already is used) and trains its co-access model, without sessions, which are held in
# memory for fitting. NEARCAST and FEATURE_SPEED name the binaries, target/release's when not given:
#
#   cargo build --release && cargo build --release -p nearcast-trainer --example feature_speed
set -euo pipefail
root=$(dirname "$0")/../target/release
nearcast=${NEARCAST:-$root/nearcast}
speed=${FEATURE_SPEED:-$root/examples/feature_speed}
usage="usage: bench/features.sh LOG… | --rows N [FOLDER]"
if [ "${1:?$usage}" != --rows ]; then
    exec "$speed" "$@"
fi
rows=${2:?$usage}
folder=${3:-$(mktemp -d)}
[ -n "${3:-}" ] || trap 'rm -rf "$folder"' EXIT
log=$folder/synthetic-$rows
[ -e "$log" ] || "$nearcast" synthesize --requests "$rows" --days 30 -o "$log" >&2
"$speed" --no-sessions "$log"
