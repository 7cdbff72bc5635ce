#!/usr/bin/env bash
# Installs what CUDA code is compiled with, from the Python package index, into FOLDER (0.9 GB). No GPU, no driver and no root
# are needed: scripts/cuda-toolkit.sh FOLDER [VERSION]
# Then set the variables that it prints, and run scripts/build-backend.sh cuda or cargo build --features cuda (docs/gpu.md).
set -euo pipefail
folder=${1:?usage: scripts/cuda-toolkit.sh FOLDER [VERSION]}
# A driver runs the code of toolkits of its own major version. 13.0 serves every driver from 580 on.
version=${2:-13.0}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "nvidia-cuda-nvcc==$version.*" "nvidia-cuda-runtime==$version.*" \
    "nvidia-cuda-crt==$version.*" "nvidia-nvvm==$version.*" "nvidia-cuda-cccl==$version.*" nvidia-cublas
cuda=$(echo "$folder"/venv/lib/python3*/site-packages/nvidia/cu"${version%%.*}")

# The packages have libraries for running programs. The linker looks for names without a version, and in lib64.
for library in "$cuda"/lib/lib*.so.*; do
    ln -sf "$(basename "$library")" "${library%%.so.*}.so"
done
ln -sfn lib "$cuda/lib64"
# --features cuda asks for static libraries that the packages lack. These are empty; the shared ones have the functions.
for name in cublas_static cublasLt_static culibos; do
    [ -e "$cuda/lib/lib$name.a" ] || ar crs "$cuda/lib/lib$name.a"
done

# CMake looks at the first three, llama-cpp-sys-2's build script at the fourth.
printf 'export CUDA_PATH=%q\nexport CUDACXX=%q\nexport CUDAToolkit_ROOT=%q\nexport CUDA_LIBRARY_PATH=%q\n' \
    "$cuda" "$cuda/bin/nvcc" "$cuda" "$cuda"
printf 'export LD_LIBRARY_PATH=%q${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}\n' "$cuda/lib"
