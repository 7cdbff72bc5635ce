// AMX with bfloat16 (Sapphire Rapids and later), with AVX-512 for unpacking.

#include "matmul.h"

#if defined(__linux__) && defined(__x86_64__) && defined(__AVX512F__) && defined(__AVX512BF16__) && defined(__AMX_BF16__)

#include "format.h"
#include "isa_avx512.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace tulu {
namespace {

struct isa : avx512 {
    static constexpr bool SIGNED = false;
};

inline isa::ints pack(isa::floats even, isa::floats odd) {
    const __m512i interleaved = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7,
                                                 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    const auto halves = (__m512i) _mm512_cvtne2ps_pbh((__m512) odd, (__m512) even);
    return (isa::ints) _mm512_permutexvar_epi16(interleaved, halves);
}

}  // namespace
}  // namespace tulu

#include "bf16_kernel.h"

namespace tulu {

// CPUID leaf 7, EDX: bit 22 is AMX-BF16, bit 24 is AMX-TILE; leaf 7, subleaf 1, EAX: bit 5 is AVX512-BF16.
static bool cpu_has_amx() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 22 & 1) &&
           (d >> 24 & 1) && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 5 & 1);
}

// Asks Linux for the use of the tile registers, as Documentation/arch/x86/xstate.rst describes.
static bool kernel_permits_amx() {
    constexpr int REQUEST_PERMISSION = 0x1023, TILE_DATA = 18;
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}

// Whether a small product of whole numbers, which has no rounding, is right.
static bool product_is_right() {
    column_tile columns;
    weight_tile weights;
    sum_tile sums;
    const auto value  = [](int column, int k) { return static_cast<float>((column + k) % 7 - 3); };
    const auto weight = [](int row, int k) { return static_cast<float>((row * k) % 5 - 2); };
    for (int i = 0; i < TILE; i++) {
        for (int k = 0; k < TILE_DEPTH; k++) {
            columns.values[i][k] = to_bf16(value(i, k));
        }
        for (int k = 0; k < TILE_DEPTH / 2; k++) {
            weights.pairs[k][i] = to_bf16(weight(i, 2 * k)) | static_cast<uint32_t>(to_bf16(weight(i, 2 * k + 1))) << 16;
        }
    }
    const tile_configuration configured;
    multiply_tiles<1, 1>(&columns, 0, &weights, 0, 1, &sums, 0, true);
    for (int column = 0; column < TILE; column++) {
        for (int row = 0; row < TILE; row++) {
            float right = 0;
            for (int k = 0; k < TILE_DEPTH; k++) {
                right += value(column, k) * weight(row, k);
            }
            if (sums.values[column][row] != right) {
                return false;
            }
        }
    }
    return true;
}

static bool runs_here() {
    static const bool yes = cpu_has_amx() && kernel_permits_amx() && product_is_right();
    return yes;
}

extern const path AMX_BF16;
const path AMX_BF16 = { "amx-bf16", runs_here, supports, scratch_bytes, multiply };

}  // namespace tulu

#else  // the compiler does not support the instructions

namespace tulu {

extern const path AMX_BF16;
const path AMX_BF16 = { "amx-bf16", [] { return false; }, nullptr, nullptr, nullptr };

}  // namespace tulu

#endif
