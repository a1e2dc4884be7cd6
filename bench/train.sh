#!/usr/bin/env bash
# Compares how fast the sequence model trains with the same architecture in PyTorch, on the CPU or on a GPU.
#
#   bench/train.sh [--rounds R] [--seconds S] [--threads T] [--keys K,K] [--device cpu|cuda]
#
# R rounds (3) of S seconds (2) each, turn by turn on T threads (all cores), for vocabularies of K keys
# (10000,1000000), without and with path tokens. Speed is taken over slices of a tenth of a second: the median, and the
# best, which says what a machine does that nobody disturbs; and over the processor time spent, waiting for each other
# included. Of PyTorch's variants (see bench/train/pytorch.py) the one that needs the least processor time counts. What is needed of Python (3.11, bench/train/requirements.txt: several
# gigabytes) goes to target/train-venv; NEARCAST_TRAIN_PYTHON names an interpreter that has it already, and
# NEARCAST_TRAIN_SPEED a built models/examples/train_speed.rs. `--device cuda` builds with the feature `cuda`, see
# bench/cuda.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=3 seconds=2 threads=$(nproc) keys=10000,1000000 device=cpu
while [ $# -gt 0 ]; do
    case $1 in
        --rounds) rounds=$2 ;;
        --seconds) seconds=$2 ;;
        --threads) threads=$2 ;;
        --keys) keys=$2 ;;
        --device) device=$2 ;;
        *)
            echo "usage: bench/train.sh [--rounds R] [--seconds S] [--threads T] [--keys K,K] [--device cpu|cuda]" >&2
            exit 2
            ;;
    esac
    shift 2
done

python=${NEARCAST_TRAIN_PYTHON:-target/train-venv/bin/python}
if [ ! -x "$python" ]; then
    "$(command -v python3.11 || command -v python3)" -m venv target/train-venv
    target/train-venv/bin/pip install --quiet --disable-pip-version-check -r bench/train/requirements.txt
fi
speed=${NEARCAST_TRAIN_SPEED:-target/release/examples/train_speed}
if [ -z "${NEARCAST_TRAIN_SPEED:-}" ]; then
    features=()
    [ "$device" = cpu ] || features=(--features cuda)
    cargo build --release --quiet --locked -p nearcast-models "${features[@]}" --example train_speed
fi

folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
export RAYON_NUM_THREADS=$threads OMP_NUM_THREADS=$threads
"$speed" --keys "$keys" --dump "$folder"
exec_python() { PYTHONWARNINGS=ignore "$python" "$@"; }
for file in "$folder"/*.batches; do
    name=$(basename "$file" .batches)
    tokens=$([ "${name#*-}" = 0 ] && echo no || echo yes)
    for _ in $(seq "$rounds"); do
        "$speed" --keys "${name%-*}" --tokens "$tokens" --rounds "$((seconds * 10))" --seconds 0.1 \
            --device "$device" --json >>"$folder/$name.nearcast"
        exec_python bench/train/pytorch.py "$file" --device "$device" --threads "$threads" --seconds "$seconds" >>"$folder/$name.pytorch"
    done
done
exec_python bench/train/compare.py "$folder" "$threads"
