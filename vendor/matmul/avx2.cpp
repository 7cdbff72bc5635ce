// AVX2 without VNNI: products of bytes are added to 16-bit sums, but only as many as cannot overflow. For signed
// weights, the sign of the weight is moved to the byte of the column, which is then multiplied with the absolute value
// of the weight.

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)

#include "isa_avx2.h"

namespace tulu {
namespace {

struct isa : avx2 {
    static constexpr bool SIGNED = true;
    using partial = ints;  // 16-bit sums

    // One instruction adds two products.
    static constexpr int in_partial(int largest_byte) { return 32767 / (2 * largest_byte * 127); }

    static partial begin(ints) { return partial{}; }

    template <bool is_signed> static partial dot(partial sum, ints weights, int32_t four) {
        __m256i w = (__m256i) weights, column = _mm256_set1_epi32(four);
        if (is_signed) {
            column = _mm256_sign_epi8(column, w);
            w      = _mm256_abs_epi8(w);
        }
        return (partial) _mm256_add_epi16((__m256i) sum, _mm256_maddubs_epi16(w, column));
    }

    static ints end(ints sum, partial added) {
        return sum + (ints) _mm256_madd_epi16((__m256i) added, _mm256_set1_epi16(1));
    }
};

}  // namespace
}  // namespace tulu

#include "byte_kernel.h"

namespace tulu {

static bool runs_here() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

extern const path AVX2;
const path AVX2 = { "avx2", runs_here, supports, scratch_bytes, multiply };

}  // namespace tulu

#else  // the compiler does not support the instructions

#include "matmul.h"

namespace tulu {

extern const path AVX2;
const path AVX2 = { "avx2", [] { return false; }, nullptr, nullptr, nullptr };

}  // namespace tulu

#endif
