#!/usr/bin/env bash
# Checks the kernels for ARM on any machine: cross-compiles them with a test program and runs it under qemu. It needs the
# Debian packages g++-aarch64-linux-gnu and qemu-user-static; without them, nothing is checked, and it says so. CXX and QEMU
# may name other programs, with their flags. An argument is the seed of the random numbers.
set -euo pipefail
cd "$(dirname "$0")/../vendor"

read -ra cxx <<<"${CXX:-aarch64-linux-gnu-g++}"
read -ra qemu <<<"${QEMU:-qemu-aarch64-static -L /usr/aarch64-linux-gnu}"
for program in "${cxx[0]}" "${qemu[0]}"; do
    if ! command -v "$program" >/dev/null; then
        echo "SKIPPED: the kernels for ARM are not tested: $program is not installed"
        exit 0
    fi
done
source=$(ls -d "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/llama-cpp-sys-2-"$(sed -n 's/^llama-cpp-sys-2 *= *"\(.*\)"/\1/p' llama.cpp.toml)"/llama.cpp)
work=$(mktemp -d "${TMPDIR:-/tmp}/tulu-quant-aarch64.XXXXXX")
trap 'rm -rf "$work"' EXIT

# CMake writes this header.
printf '#define GGML_VERSION "test"\n#define GGML_COMMIT "test"\n' >"$work/ggml-version.h"

compile() { # output, source, flags
    "${cxx[@]}" -O2 -ffunction-sections -I. -I"$work" -I"$source/ggml/include" -I"$source/ggml/src" -w -c -o "$work/$1.o" "${@:3}" "$2"
}
ours=(-std=c++17 -march=armv8.2-a)
for name in attention visible_cells; do
    compile "$name" "attention/$name.cpp" "${ours[@]}"
done
compile matmul matmul/matmul.cpp "${ours[@]}"
compile neon_dotprod matmul/neon_dotprod.cpp -std=c++17 -march=armv8.2-a+dotprod -fno-strict-aliasing
compile kernels tests/aarch64/kernels.cpp "${ours[@]}"
# Of ggml: the reference quantizers. The linker drops the functions that need the rest of ggml.
for name in ggml.c ggml-quants.c; do
    compile "$name" "$source/ggml/src/$name" -x c -std=gnu11 -D_GNU_SOURCE
done
compile threading "$source/ggml/src/ggml-threading.cpp"
"${cxx[@]}" -Wl,--gc-sections -o "$work/kernels" "$work"/*.o -lm -lpthread
"${qemu[@]}" "$work/kernels" "$@"
