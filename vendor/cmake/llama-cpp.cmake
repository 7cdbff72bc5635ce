# Read by CMake after every project() of llama.cpp (.cargo/config.toml sets CMAKE_PROJECT_INCLUDE).
#
# AMX: GCC before 13.3 declares in _tile_loadconfig that the instruction reads 8 bytes; it reads 64. The optimizer then removes
# the stores to the rest of ggml's tile configuration, and the first AMX matrix product dies with SIGILL. The header declares
# the right operand. It has no effect in files that are not compiled for AMX.
#
# -ffp-contract=off: on ARM the compiler by default fuses a multiplication and an addition into one operation with one rounding.
# ggml's quantizers would then write other bytes than on x86-64 and than our kernels, which never fuse.
if (CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64|ARM64" AND CMAKE_C_COMPILER_ID MATCHES "GNU|Clang")
    add_compile_options("$<$<COMPILE_LANGUAGE:C,CXX>:-ffp-contract=off>")
endif()
if (CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:SHELL:-include \"${CMAKE_CURRENT_LIST_DIR}/amx_tile_config.h\">")
endif()
