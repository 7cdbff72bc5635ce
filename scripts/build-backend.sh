#!/usr/bin/env bash
# Builds a GPU backend as a file beside the program: scripts/build-backend.sh vulkan|cuda [FOLDER] [CMAKE_ARGUMENT...]
# FOLDER is that of the program, target/release if it is not given. docs/gpu.md says what each backend needs.
set -euo pipefail
backend=${1:?usage: scripts/build-backend.sh vulkan|cuda [FOLDER] [CMAKE_ARGUMENT...]}
shift
here=$(cd "$(dirname "$0")/.." && pwd)
target=${CARGO_TARGET_DIR:-$here/target}
folder=$target/release
case ${1:-} in "" | -*) ;; *) folder=$1 && shift ;; esac

# The sources that the program itself is built from, and the key that says so (vendor/src/backend_file.rs).
manifest=$(cd "$here" && cargo metadata --format-version 1 --locked |
    grep -o '"manifest_path":"[^"]*/llama-cpp-sys-2-[0-9.]*/Cargo.toml"' | head -1 | cut -d'"' -f4)
source=$(dirname "$manifest")
version=${source##*-}

build=$target/backends/$backend
arguments=(-DCMAKE_BUILD_TYPE=Release -DBACKEND="$backend" -DBACKEND_KEY="llama-cpp-sys-2 $version")
arguments+=(-DLLAMA_CPP="$source/llama.cpp")
# Without the driver's library nothing can be linked that needs it. Such a build uses somewhat more memory of the GPU.
if [ "$backend" = cuda ] && ! find -L "${CUDA_PATH:-/usr/local/cuda}" /usr/lib -name libcuda.so 2>/dev/null | grep -q .; then
    arguments+=(-DGGML_CUDA_NO_VMM=ON)
fi
cmake -S "$here/vendor/backends" -B "$build" "${arguments[@]}" "$@"
cmake --build "$build" --target "ggml-$backend" --parallel "$(getconf _NPROCESSORS_ONLN)"
mkdir -p "$folder"
# Of an older build, a program that runs keeps its file: the new one gets the name in one step.
strip --strip-unneeded -o "$folder/.libggml-$backend.new" "$build/bin/libggml-$backend.so"
mv "$folder/.libggml-$backend.new" "$folder/libggml-$backend.so"
echo "$folder/libggml-$backend.so is ready; tulu-quant doctor shows whether it loads"
