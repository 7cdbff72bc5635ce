# Read by CMake after every project() of llama.cpp (.cargo/config.toml sets CMAKE_PROJECT_INCLUDE).
#
# GCC before 13.3 declares in _tile_loadconfig that the instruction reads 8 bytes; it reads 64. The stores that fill the
# rest of ggml's tile configuration are then dead to the optimiser, and the first AMX matrix product dies with SIGILL.
# The header gives the intrinsic its right operand. It is a no-op in files that are not compiled for AMX.
#
# The quantizers' bytes: where the compiler may fuse a multiplication and an addition into one rounding, which on ARM it
# does by default, ggml's blocks differ from those of x86-64, and from those of our kernels, which never fuse.
if (CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64|ARM64" AND CMAKE_C_COMPILER_ID MATCHES "GNU|Clang")
    add_compile_options("$<$<COMPILE_LANGUAGE:C,CXX>:-ffp-contract=off>")
endif()
if (CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:SHELL:-include \"${CMAKE_CURRENT_LIST_DIR}/amx_tile_config.h\">")
endif()
