// AVX-512 with VNNI: 16 rows in a vector. One instruction multiplies 64 pairs of bytes. Intel CPUs execute it on one
// port and the arithmetic of the scales on the other port at the same time.

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512VNNI__)

#include "format.h"
#include "isa_avx512.h"

namespace tulu {
namespace {

struct isa : avx512 {
    static constexpr int TILE = 12;
    static constexpr bool SIGNED = false;
    using partial = ints;

    static constexpr int in_partial(int) { return CHUNK; }

    static partial begin(ints sum) { return sum; }

    template <bool> static partial dot(partial sum, ints weights, int32_t four) {
        return (partial) _mm512_dpbusd_epi32((__m512i) sum, (__m512i) weights, _mm512_set1_epi32(four));
    }

    static ints end(ints, partial sum) { return sum; }
};

}  // namespace
}  // namespace tulu

#include "byte_kernel.h"

namespace tulu {

static bool runs_here() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}

extern const path AVX512_VNNI;
const path AVX512_VNNI = { "avx512-vnni", runs_here, supports, scratch_bytes, multiply };

}  // namespace tulu

#else  // the compiler does not support the instructions

#include "matmul.h"

namespace tulu {

extern const path AVX512_VNNI;
const path AVX512_VNNI = { "avx512-vnni", [] { return false; }, nullptr, nullptr, nullptr };

}  // namespace tulu

#endif
