// Declares the right operand for ldtilecfg: the instruction reads 64 bytes (Intel SDM vol. 2A, LDTILECFG), but the
// intrinsic of GCC 12 declares 8. llama-cpp.cmake force-includes this file; it has no effect in files that are not
// built for AMX.
#if defined(__AMX_TILE__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>
static inline __attribute__((always_inline)) void tile_loadconfig_64(const void * config) {
    __asm__ volatile("ldtilecfg\t%X0" : : "m"(*(const char(*)[64]) config));
}
#undef _tile_loadconfig
#define _tile_loadconfig tile_loadconfig_64
#endif
