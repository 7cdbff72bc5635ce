// Rows of keys and values as vectors of 16 floats. q8_0 is converted exactly: a half float times a byte fits in f32.
#pragma once

#include "../simd16.h"

namespace tulu {

// Converts 16 signed bytes.
inline vec load_bytes(const char * from) {
    vec x;
#if defined(__AVX512F__)
    const __m512 wide = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i *>(from))));
    std::memcpy(&x, &wide, sizeof x);
#elif defined(__AVX2__)
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i *>(from));
    const __m256 wide[2] = { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
                             _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8))) };
    std::memcpy(&x, wide, sizeof x);
#else
    for (int i = 0; i < LANES; i++) {
        x[i] = static_cast<signed char>(from[i]);
    }
#endif
    return x;
}

// Each type has: the bytes of a row of `dim` values, and the 16 values from number `d` on.
struct float_rows {
    static vec at(const char * row, int64_t d) { return load(reinterpret_cast<const float *>(row) + d); }
};

struct f16_rows {
    static int64_t bytes(int64_t dim) { return 2 * dim; }
    static vec at(const char * row, int64_t d) { return load_halves(row + 2 * d); }
};

struct q8_0_rows {
    static constexpr int64_t VALUES = 32, BYTES = 34;

    static int64_t bytes(int64_t dim) { return dim / VALUES * BYTES; }

    static vec at(const char * row, int64_t d) {
        const char * block = row + d / VALUES * BYTES;
        uint16_t scale;
        std::memcpy(&scale, block, sizeof scale);
        return load_bytes(block + sizeof scale + d % VALUES) * half_to_float(scale);
    }
};

inline void prefetch_row(const char * row, int64_t bytes) {
    for (int64_t at = 0; at < bytes; at += 64) {
        __builtin_prefetch(row + at);
    }
}

}  // namespace tulu
