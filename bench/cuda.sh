#!/usr/bin/env bash
# Builds the models with the feature `cuda`, tests training and measures its speed on the GPU and, for comparison, on
# the CPU of the same machine.
#
#   bench/cuda.sh [train_speed's options, e.g. --lanes 512 --width 256]
#
# The first process to use the GPU waits while its driver compiles candle's kernels (a quarter of a minute on an H200),
# and keeps them for the next. `bench/train.sh --device cuda` asks PyTorch on the same GPU.
#
# Needs an NVIDIA GPU with its driver, the CUDA toolkit (nvcc), a C compiler, Rust, and the crates of Cargo.lock. What
# is missing is said, and nothing is installed.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=0
need() {
    command -v "$1" >/dev/null 2>&1 && return
    echo "bench/cuda.sh: $1 is not here: $2" >&2
    missing=1
}
export PATH="$PATH:$HOME/.cargo/bin:/usr/local/cuda/bin"
need cargo "install Rust 1.95, e.g. with rustup"
need cc "install a C compiler"
need nvcc "install the CUDA toolkit, whose compiler builds candle's kernels"
need nvidia-smi "install the NVIDIA driver"
[ "$missing" = 0 ] || exit 1
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
nvcc --version | tail -1

cargo test --release --locked -p nearcast-models --features cuda sequence
for device in cpu cuda; do
    echo "device $device"
    cargo run --release --quiet --locked -p nearcast-models --features cuda --example train_speed -- --device "$device" "$@"
done
