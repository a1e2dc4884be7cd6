#!/usr/bin/env bash
# Fuzzes what reads bytes from outside, with stable Rust and a C++ compiler, without sanitizers (nothing here is unsafe).
#
#   fuzz/run.sh [SECONDS [TARGET...]]
#
# Each target (fuzz/fuzz_targets) for SECONDS, 60 unless said, one after the other, from fuzz/seeds/TARGET and what former
# runs found (fuzz/corpus/TARGET, not kept in the repository). Ends with 1 when a target fails; then the input lies in
# fuzz/artifacts. Small inputs that once failed belong into fuzz/seeds: `cargo test -p nearcast-cache-node fuzzing` reads
# them. With nightly Rust, `cargo fuzz run TARGET` does the same with sanitizers.
set -euo pipefail
cd "$(dirname "$0")"
seconds="${1:-60}"
shift || true
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    for file in fuzz_targets/*.rs; do targets+=("$(basename "$file" .rs)"); done
fi

# What cargo-fuzz passes, without what only nightly has. Naming the platform keeps it away from build scripts.
platform="$(rustc -vV | sed -n 's/^host: //p')"
flags="-Cpasses=sancov-module"
for option in level=4 inline-8bit-counters pc-table trace-compares; do
    flags+=" -Cllvm-args=-sanitizer-coverage-$option"
done
export RUSTFLAGS="$flags ${RUSTFLAGS:-}"
cargo build --locked --release --target "$platform"

for target in "${targets[@]}"; do
    mkdir -p "corpus/$target" "artifacts/$target" "seeds/$target"
    "target/$platform/release/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=4096 \
        -print_final_stats=1 -artifact_prefix="artifacts/$target/" "corpus/$target" "seeds/$target"
done
