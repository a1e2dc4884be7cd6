#!/usr/bin/env bash
# Puts what `nearcast demo` finds into README.md, between the two markers there.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --release --quiet
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
target/release/nearcast demo --dir "$folder/demo" >"$folder/found"
{
    echo '```'
    # What follows names files of this run.
    sed '/^The whole story/,$d' "$folder/found" | sed -e :a -e '/^\n*$/{$d;N;ba' -e '}'
    echo '```'
} >"$folder/block"
awk -v block="$folder/block" '
    /<!-- demo: begin/ { print; while ((getline line < block) > 0) print line; skip = 1 }
    /<!-- demo: end/ { skip = 0 }
    !skip
' README.md >"$folder/README.md"
cp "$folder/README.md" README.md
