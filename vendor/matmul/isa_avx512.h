// The common part of the paths with 512-bit vectors: 16 rows in a vector.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace tulu {
namespace {

struct avx512 {
    static constexpr int LANES = 16;
    using ints   = int32_t __attribute__((vector_size(64), may_alias));
    using floats = float __attribute__((vector_size(64), may_alias));

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
