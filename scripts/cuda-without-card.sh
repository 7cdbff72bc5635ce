#!/usr/bin/env bash
# Compiles the program with CUDA on a machine without card, driver and toolkit, starts it, and sees that it goes on with the
# CPU: scripts/cuda-without-card.sh [FOLDER [ARCHITECTURE]]
# The toolkit goes into FOLDER (0.9 GB; target/cuda if it is not given). It takes some 45 minutes of one core.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-target/cuda}
environment=$(scripts/cuda-toolkit.sh "$folder")
eval "$environment"
export CMAKE_CUDA_ARCHITECTURES=${2:-80}
export CARGO_TARGET_DIR=$folder/target
# Without the driver's library there are no functions for virtual memory (VMM). The linker gets cuBLAS as shared libraries,
# because the packages have no static ones.
cargo rustc --release --locked --bin tulu-quant --features cuda,llama-cpp-2/cuda-no-vmm -- \
    -C link-arg=-lcublas -C link-arg=-lcublasLt
program=$CARGO_TARGET_DIR/release/tulu-quant
"$program" doctor
"$program" chat --list-devices
"$program" chat tulu-tiny --temp 0 -n 16 -p "Tell me a story about a cat."
