#!/usr/bin/env bash
# Compares building features in one process with building them on a cluster of two executors on this machine: the same
# tables, and how much longer it takes.
#
#   bench/cluster.sh [ROWS [FOLDER]]
#
# Synthesizes a log of ROWS requests (100,000,000 when not given; 14 bytes a request) over thirty days into FOLDER (a
# temporary one when not given; a log that lies there already is used), takes the features ROUNDS times each way in turn
# (3 when not set), and prints the times, their ratio by the median, and whether the tables are the same. NEARCAST and
# FEATURE_SPEED name the binaries, target/release's when not given:
#
#   cargo build --release --workspace --features cluster --bin nearcast --example feature_speed
set -euo pipefail
root=$(dirname "$0")/../target/release
nearcast=${NEARCAST:-$root/nearcast}
speed=${FEATURE_SPEED:-$root/examples/feature_speed}
rows=${1:-100000000}
work=$(mktemp -d)
folder=${2:-$work}
log=$folder/synthetic-$rows
port=${PORT:-50150}
pids=()
cleanup() {
    # They have nothing to finish that anybody waits for.
    [ ${#pids[@]} = 0 ] || kill -9 "${pids[@]}" 2>/dev/null || true
    wait
    rm -rf "$work"
}
trap cleanup EXIT
trap "exit 130" INT TERM
[ -e "$log" ] || "$nearcast" synthesize --requests "$rows" --days 30 -o "$log" >&2

"$nearcast" scheduler --listen "127.0.0.1:$port" 2>"$work/scheduler.log" &
pids+=($!)
sleep 1
for executor in 1 2; do
    "$nearcast" executor --scheduler "127.0.0.1:$port" --port $((port + executor)) --task-port $((port + 10 + executor)) \
        --tasks 1 --work "$work/executor-$executor" 2>"$work/executor-$executor.log" &
    pids+=($!)
done

for round in $(seq "${ROUNDS:-3}"); do
    "$speed" --json --no-sessions --partitions 2 "$log" >"$work/embedded-$round.json"
    "$speed" --json --no-sessions --partitions 2 --engine "ballista://127.0.0.1:$port" "$log" >"$work/cluster-$round.json"
done
python3 - "$work" "$rows" <<'END'
import glob, json, statistics, sys
work, rows = sys.argv[1], int(sys.argv[2])
runs = {way: [json.load(open(path)) for path in sorted(glob.glob(f"{work}/{way}-*.json"))] for way in ("embedded", "cluster")}
total = lambda run: sum(stage["seconds"] for stage in run["stages"])
for way, found in runs.items():
    for run in found:
        stages = ", ".join(f"{stage['name']} {stage['seconds']:.2f} s" for stage in run["stages"])
        print(f"{way:<9} {total(run):8.2f} s  ({stages})")
medians = {way: statistics.median(map(total, found)) for way, found in runs.items()}
ratio = medians["cluster"] / medians["embedded"]
same = len({run["tables"] for found in runs.values() for run in found}) == 1
print(f"{rows} requests: cluster / embedded = {ratio:.2f} by the median; tables {'identical' if same else 'DIFFER'}")
sys.exit(0 if same and ratio <= 1.5 else 1)
END
