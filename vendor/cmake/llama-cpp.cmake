# Read by CMake after every project() of llama.cpp (.cargo/config.toml sets CMAKE_PROJECT_INCLUDE).
#
# GCC before 13.3 declares in _tile_loadconfig that the instruction reads 8 bytes; it reads 64. The stores that fill the
# rest of ggml's tile configuration are then dead to the optimiser, and the first AMX matrix product dies with SIGILL.
# The header gives the intrinsic its right operand. It is a no-op in files that are not compiled for AMX.
if (CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:SHELL:-include \"${CMAKE_CURRENT_LIST_DIR}/amx_tile_config.h\">")
endif()
