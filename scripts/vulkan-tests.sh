#!/usr/bin/env bash
# Builds the Vulkan backend and runs the tests that need a GPU, on Mesa's software device (lavapipe) where there is no card:
#   scripts/vulkan-tests.sh [CMAKE_ARGUMENT...]
# As root on Debian 13 or Ubuntu 25.04 and later it installs what is missing. Elsewhere, docs/gpu.md says what is needed; the
# arguments go to scripts/build-backend.sh, such as -DVulkan_INCLUDE_DIR=FOLDER for newer headers.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v glslc >/dev/null && command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
    apt-get update -qq
    apt-get install -y -qq glslc libvulkan-dev spirv-headers mesa-vulkan-drivers >/dev/null
fi
target=${CARGO_TARGET_DIR:-$PWD/target}
cargo build --release --locked
# A program of its own folder: the other tests must not find the backend.
folder=$target/vulkan
mkdir -p "$folder"
cp -f "$target/release/tulu-quant" "$folder/tulu-quant"
scripts/build-backend.sh vulkan "$folder" "$@"
# ggml uses a software device only if it is named.
export GGML_VK_VISIBLE_DEVICES=${GGML_VK_VISIBLE_DEVICES:-0}
"$folder/tulu-quant" doctor
TULU_QUANT_GPU_PROGRAM=$folder/tulu-quant cargo test --release --locked --test program -- --ignored --nocapture --test-threads 1 gpu_
