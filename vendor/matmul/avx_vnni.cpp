// AVX-VNNI (Alder Lake and later): AVX2's 256-bit vectors with the byte product instruction of AVX-512 VNNI. With
// TULU_EVEX, the same instruction in the encoding of AVX-512, for tests on CPUs that only have that. Never used for a
// model.

#ifdef TULU_EVEX
#define TULU_PATH AVX_VNNI_EVEX
#define TULU_NAME "avx-vnni-evex"
#define TULU_DOT _mm256_dpbusd_epi32
#else
#define TULU_PATH AVX_VNNI
#define TULU_NAME "avx-vnni"
#define TULU_DOT _mm256_dpbusd_avx_epi32
#endif

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__) && \
    (defined(TULU_EVEX) ? defined(__AVX512VNNI__) && defined(__AVX512VL__) : defined(__AVXVNNI__))

#include "format.h"
#include "isa_avx2.h"

#include <cpuid.h>

namespace tulu {
namespace {

struct isa : avx2 {
    static constexpr bool SIGNED = false;
    using partial = ints;

    static constexpr int in_partial(int) { return CHUNK; }

    static partial begin(ints sum) { return sum; }

    template <bool> static partial dot(partial sum, ints weights, int32_t four) {
        return (partial) TULU_DOT((__m256i) sum, (__m256i) weights, _mm256_set1_epi32(four));
    }

    static ints end(ints, partial sum) { return sum; }
};

}  // namespace
}  // namespace tulu

#include "byte_kernel.h"

namespace tulu {

static bool runs_here() {
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
#ifdef TULU_EVEX
    return avx2 && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
#else
    // Some compilers' __builtin_cpu_supports does not accept AVX-VNNI, so read CPUID leaf 7, subleaf 1, EAX bit 4.
    unsigned a = 0, b = 0, c = 0, d = 0;
    return avx2 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
#endif
}

extern const path TULU_PATH;
const path TULU_PATH = { TULU_NAME, runs_here, supports, scratch_bytes, multiply };

}  // namespace tulu

#else  // the compiler does not support the instructions

#include "matmul.h"

namespace tulu {

extern const path TULU_PATH;
const path TULU_PATH = { TULU_NAME, [] { return false; }, nullptr, nullptr, nullptr };

}  // namespace tulu

#endif
