// The common part of the paths with 256-bit vectors: eight rows in a vector.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstddef>

namespace tulu {
namespace {

struct avx2 {
    static constexpr int LANES = 8, TILE = 6;
    using ints   = int32_t __attribute__((vector_size(32), may_alias));
    using floats = float __attribute__((vector_size(32), may_alias));

    static ints lookup(const uint8_t * table, ints nibbles) {
        const __m256i all = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i *>(table)));
        return (ints) _mm256_shuffle_epi8(all, (__m256i) nibbles);
    }

    // Converts the low 16 bits of each number from half float.
    static floats from_halves(ints x) {
        const __m256i low = (__m256i) (x & 0xffff);
        return (floats) _mm256_cvtph_ps(_mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1)));
    }

    // Loads four bytes from each of 8 addresses, `step` bytes apart.
    static ints gather(const char * from, size_t step) {
        const __m256i lane = _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0);
        const __m256i at   = _mm256_mullo_epi32(lane, _mm256_set1_epi32(static_cast<int>(step)));
        return (ints) _mm256_i32gather_epi32(reinterpret_cast<const int *>(from), at, 1);
    }

    // Loads 16 bytes from each of two addresses, `step` bytes apart, to the 128-bit lanes.
    static ints four_rows_apart(const char * from, size_t step) {
        const auto part = [=](int row) { return _mm_loadu_si128(reinterpret_cast<const __m128i *>(from + row * step)); };
        return (ints) _mm256_inserti128_si256(_mm256_castsi128_si256(part(0)), part(1), 1);
    }

    static void transpose_in_lanes(const ints * rows, ints * to) {
        const auto r = reinterpret_cast<const __m256i *>(rows);
        const __m256i a = _mm256_unpacklo_epi32(r[0], r[1]), b = _mm256_unpackhi_epi32(r[0], r[1]);
        const __m256i c = _mm256_unpacklo_epi32(r[2], r[3]), d = _mm256_unpackhi_epi32(r[2], r[3]);
        to[0] = (ints) _mm256_unpacklo_epi64(a, c);
        to[1] = (ints) _mm256_unpackhi_epi64(a, c);
        to[2] = (ints) _mm256_unpacklo_epi64(b, d);
        to[3] = (ints) _mm256_unpackhi_epi64(b, d);
    }
};

}  // namespace
}  // namespace tulu
