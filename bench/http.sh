#!/usr/bin/env bash
# Measures cache hits of nearcast-node beside nginx, Apache Traffic Server and Varnish, in one run on one machine.
#
#   bench/http.sh [--rounds N] [--seconds N] [--servers NAME,…] [--sizes BYTES,…] [--json]
#
# Every server has one core to itself and wrk another, with 32 keep-alive connections; servers take turns, so that a
# noisy neighbour meets all of them. What is printed is each server's best round: noise only ever slows. Needs Linux,
# Python 3, taskset, wrk and, for each rival, its Debian package: nginx, trafficserver, varnish. One that is not
# installed is left out, and that is said. NEARCAST_NODE names the node's program; without it one is built as for
# installation (profile `dist`), which takes some minutes.
set -euo pipefail
root="$(cd "$(dirname "$0")/.." && pwd)"
for tool in python3 taskset wrk; do
    command -v "$tool" >/dev/null || { echo "bench/http.sh: $tool is not here: install it" >&2; exit 2; }
done
if [ -z "${NEARCAST_NODE:-}" ]; then
    cargo build --profile dist --locked --manifest-path "$root/Cargo.toml" -p nearcast-cache-node --bin nearcast-node
    export NEARCAST_NODE="$root/target/dist/nearcast-node"
fi
exec python3 "$root/bench/http_caches.py" "$@"
