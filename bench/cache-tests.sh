#!/usr/bin/env bash
# Runs the public suite http-tests/cache-tests against a cache node and prints its score.
#
#   bench/cache-tests.sh SUITE [--json] [--failed]
#
# SUITE is a checkout of https://github.com/http-tests/cache-tests in which `npm install --omit=dev` has been run; it is
# not part of this project. NEARCAST_NODE names the node's program; without it a release build is made. Needs Node.js 20.
# A run takes about a minute. --failed lists what was not passed. Ports 18000 and 18100 of 127.0.0.1 must be free.
set -euo pipefail
root="$(cd "$(dirname "$0")/.." && pwd)"
suite="${1:-}"
if [ ! -f "$suite/test-engine/cli.mjs" ]; then
    echo "bench/cache-tests.sh: no suite in \`$suite\`: clone https://github.com/http-tests/cache-tests, run" >&2
    echo "\`npm install --omit=dev\` in it, and name its folder as the first argument" >&2
    exit 2
fi
if [ ! -d "$suite/node_modules" ]; then
    echo "bench/cache-tests.sh: $suite has no node_modules: run \`npm install --omit=dev\` in it" >&2
    exit 2
fi
command -v node >/dev/null || { echo "bench/cache-tests.sh: Node.js is not here: install version 20 or later" >&2; exit 2; }
suite="$(cd "$suite" && pwd)"
shift

if [ -z "${NEARCAST_NODE:-}" ]; then
    cargo build --release --locked --manifest-path "$root/Cargo.toml" -p nearcast-cache-node --bin nearcast-node
    NEARCAST_NODE="$root/target/release/nearcast-node"
fi

work="$(mktemp -d)"
pids=()
finish() {
    kill "${pids[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT

cat >"$work/node.toml" <<TOML
name = "cache-tests"
region = "local"
listen = "127.0.0.1:18100"
data_dir = "$work/data"
capacity = "256MiB"
[origin]
url = "http://127.0.0.1:18000"
[log]
enabled = false
TOML
# The suite's origin would listen on every interface.
cat >"$work/local.mjs" <<'JS'
import net from 'node:net'
const listen = net.Server.prototype.listen
net.Server.prototype.listen = function (port, ...rest) {
  return typeof port === 'object' ? listen.call(this, port, ...rest) : listen.call(this, port, '127.0.0.1')
}
JS

cd "$suite"
npm_config_protocol=http npm_config_port=18000 npm_config_pidfile="$work/origin.pid" \
    node --import "$work/local.mjs" test-engine/server/server.mjs >"$work/origin.log" 2>&1 &
pids+=($!)
"$NEARCAST_NODE" -c "$work/node.toml" >"$work/node.log" 2>&1 &
pids+=($!)
wait_for() {
    for _ in $(seq 100); do
        if (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then return; fi
        sleep 0.1
    done
    echo "bench/cache-tests.sh: nothing answers on port $1; this is what was said:" >&2
    cat "$work/origin.log" "$work/node.log" >&2
    exit 1
}
wait_for 18000
wait_for 18100

npm_config_base=http://127.0.0.1:18100 npm_config_id='' npm_package_config_id='' \
    timeout 600 node --no-warnings test-engine/cli.mjs >"$work/results.json" 2>"$work/cli.log" ||
    { cat "$work/cli.log" >&2; exit 1; }
node "$root/bench/cache-tests.mjs" "$suite" "$work/results.json" "$@"
