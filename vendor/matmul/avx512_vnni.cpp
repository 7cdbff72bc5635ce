// AVX-512 with VNNI: 16 rows in a vector. One instruction multiplies 64 pairs of bytes. Intel CPUs execute it on one
// port and the arithmetic of the scales on the other port at the same time.

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512VNNI__)

#include "format.h"

#include <immintrin.h>

#include <cstddef>

namespace tulu {
namespace {

struct isa {
    static constexpr int LANES = 16, TILE = 12;
    static constexpr bool SIGNED = false;
    using ints   = int32_t __attribute__((vector_size(64), may_alias));
    using floats = float __attribute__((vector_size(64), may_alias));

    using partial = ints;

    static constexpr int in_partial(int) { return CHUNK; }

    static partial begin(ints sum) { return sum; }

    template <bool> static partial dot(partial sum, ints weights, int32_t four) {
        return (partial) _mm512_dpbusd_epi32((__m512i) sum, (__m512i) weights, _mm512_set1_epi32(four));
    }

    static ints end(ints, partial sum) { return sum; }

    static ints lookup(const uint8_t * table, ints nibbles) {
        const __m512i all = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i *>(table)));
        return (ints) _mm512_shuffle_epi8(all, (__m512i) nibbles);
    }

    // Converts the low 16 bits of each number from half float.
    static floats from_halves(ints x) { return (floats) _mm512_cvtph_ps(_mm512_cvtepi32_epi16((__m512i) x)); }

    // Loads four bytes from each of 16 addresses, `step` bytes apart.
    static ints gather(const char * from, size_t step) {
        const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
        const __m512i at   = _mm512_mullo_epi32(lane, _mm512_set1_epi32(static_cast<int>(step)));
        return (ints) _mm512_i32gather_epi32(at, from, 1);
    }

    // Loads 16 bytes from each of four addresses, `step` bytes apart, to the 128-bit lanes.
    static ints four_rows_apart(const char * from, size_t step) {
        const auto part = [=](int row) { return _mm_loadu_si128(reinterpret_cast<const __m128i *>(from + row * step)); };
        __m512i all = _mm512_castsi128_si512(part(0));
        all = _mm512_inserti32x4(all, part(1), 1);
        all = _mm512_inserti32x4(all, part(2), 2);
        return (ints) _mm512_inserti32x4(all, part(3), 3);
    }

    static void transpose_in_lanes(const ints * rows, ints * to) {
        const auto r = reinterpret_cast<const __m512i *>(rows);
        const __m512i a = _mm512_unpacklo_epi32(r[0], r[1]), b = _mm512_unpackhi_epi32(r[0], r[1]);
        const __m512i c = _mm512_unpacklo_epi32(r[2], r[3]), d = _mm512_unpackhi_epi32(r[2], r[3]);
        to[0] = (ints) _mm512_unpacklo_epi64(a, c);
        to[1] = (ints) _mm512_unpackhi_epi64(a, c);
        to[2] = (ints) _mm512_unpacklo_epi64(b, d);
        to[3] = (ints) _mm512_unpackhi_epi64(b, d);
    }
};

}  // namespace
}  // namespace tulu

#include "kernel.h"

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
