#!/usr/bin/env bash
# Prints what placement strategies make of logs from several regions, as Markdown tables.
#
#   bench/placement.sh LOGS [NEARCAST]
#
# LOGS is a folder with news.parquet and checkins.parquet; logs that are not there are left out. NEARCAST is the binary,
# target/release/nearcast when not given. Two synthetic logs of six regions across time zones are made on the way and played
# with the round trips of bench/placement.toml: in one (sun) tastes follow the local time of day, in the other (flat) they
# stay what they are. The other logs have the built-in round trips. Every node has the same capacity under every strategy.
# Each baseline is played with half, nine tenths and all of it for placed replicas (the rest is pull-through), the reactive
# one with half-lives of an hour, four and a week, and shown at what gave it the least mean latency in hindsight; gapa has
# its defaults. Thin plays what links are worth that take hours for a plan, with and without looking ahead.
# ONLY=sun,flat,thin,news,checkins,elsewhere prints some of the tables, SEED=2 another synthetic log.
set -euo pipefail
logs=${1:?usage: bench/placement.sh LOGS [NEARCAST]}
nearcast=${2:-$(dirname "$0")/../target/release/nearcast}
exec python3 "$(dirname "$0")/placement.py" "$logs" "$nearcast"
