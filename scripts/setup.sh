#!/usr/bin/env bash
# Installs the build tools of llama.cpp: cmake, a C++ compiler and libclang (for bindgen). Uses apt, dnf or brew;
# without them, installs cmake and libclang from the Python package index to FOLDER, the argument. Writes the variables
# for make to FOLDER/env.mk.
set -euo pipefail
tools=$1
mkdir -p "$tools"

have_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] && return 0
    local file
    for file in /usr/lib/llvm-*/lib/libclang[.-]*so* /usr/lib/*/libclang[.-]*so* /usr/lib64/libclang.so* \
        /usr/lib64/llvm*/lib/libclang.so* /opt/homebrew/opt/llvm/lib/libclang.dylib /usr/local/opt/llvm/lib/libclang.dylib \
        /Library/Developer/CommandLineTools/usr/lib/libclang.dylib; do
        case $file in *libclang-cpp*) ;; *) [ -e "$file" ] && return 0 ;; esac
    done
    return 1
}
have_all() { command -v cmake >/dev/null && command -v c++ >/dev/null && have_libclang; }

done_with_system() {
    echo "# The system has all build tools." >"$tools/env.mk"
    exit 0
}

have_all && done_with_system

sudo=
[ "$(id -u)" -eq 0 ] || sudo=$(command -v sudo || true)
echo "setup: installing cmake, a C++ compiler and libclang" >&2
if command -v apt-get >/dev/null && { [ "$(id -u)" -eq 0 ] || [ -n "$sudo" ]; }; then
    $sudo apt-get update -qq && $sudo apt-get install -y -qq cmake g++ libclang-dev >/dev/null || true
elif command -v dnf >/dev/null && { [ "$(id -u)" -eq 0 ] || [ -n "$sudo" ]; }; then
    $sudo dnf install -y -q cmake gcc-c++ clang-devel || true
elif command -v brew >/dev/null; then
    brew install --quiet cmake llvm || true
fi
have_all && done_with_system

if command -v python3 >/dev/null && command -v c++ >/dev/null; then
    python3 -m venv "$tools/python"
    "$tools/python/bin/pip" install --quiet cmake==3.31.6 libclang==18.1.1
    clang=$("$tools/python/bin/python" -c 'import clang, os; print(os.path.join(os.path.dirname(clang.__file__), "native"))')
    # The wheel has no compiler headers; GCC's are compatible.
    headers=$(c++ -print-file-name=include)
    {
        echo "export PATH := $tools/python/bin:\$(PATH)"
        echo "export LIBCLANG_PATH = $clang"
        echo "export BINDGEN_EXTRA_CLANG_ARGS = -I$headers"
    } >"$tools/env.mk"
    exit 0
fi
echo "setup: install cmake, a C++ compiler and libclang (Debian: apt install cmake g++ libclang-dev), then run make again" >&2
exit 1
