// 16-float vectors with GCC/Clang vector extensions: one register, or several where registers are smaller. Only the
// conversion from half floats uses intrinsics.
#pragma once

#include "ggml-cpu.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <cstdint>
#include <cstring>

namespace tulu {

constexpr int LANES = 16;

using vec  = float __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
using ivec = int32_t __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

inline vec load(const float * from) { return *reinterpret_cast<const vec *>(from); }
inline void store(float * to, vec x) { *reinterpret_cast<vec *>(to) = x; }

// Loads 16 half floats.
inline vec load_halves(const char * from) {
    vec x;
#if defined(__AVX512F__)
    const __m512 wide = _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(from)));
    std::memcpy(&x, &wide, sizeof x);
#elif defined(__F16C__)
    const __m256 wide[2] = { _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(from))),
                             _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(from) + 1)) };
    std::memcpy(&x, wide, sizeof x);
#else
    ggml_cpu_fp16_to_fp32(reinterpret_cast<const ggml_fp16_t *>(from), reinterpret_cast<float *>(&x), LANES);
#endif
    return x;
}

inline float half_to_float(uint16_t bits) {
#if defined(__F16C__)
    return _cvtsh_ss(bits);
#else
    return ggml_fp16_to_fp32(bits);
#endif
}

using half    = float __attribute__((vector_size(2 * LANES)));
using quarter = float __attribute__((vector_size(LANES)));

// Horizontal reduction with `join`, which works on vectors and on numbers.
template <typename F> float across(vec x, F join) {
    half h[2];
    std::memcpy(h, &x, sizeof x);
    const half joined = join(h[0], h[1]);
    quarter q[2];
    std::memcpy(q, &joined, sizeof joined);
    const quarter rest = join(q[0], q[1]);
    return join(join(rest[0], rest[2]), join(rest[1], rest[3]));
}

inline float sum(vec x) {
    return across(x, [](auto a, auto b) { return a + b; });
}

inline float largest(vec x) {
    return across(x, [](auto a, auto b) { return a > b ? a : b; });
}

// Converts the low 16 bits to a vector mask: all bits of a lane are set if its bit is.
inline ivec lanes(uint64_t bits) {
    const ivec lane = { 1 << 0, 1 << 1, 1 << 2,  1 << 3,  1 << 4,  1 << 5,  1 << 6,  1 << 7,
                        1 << 8, 1 << 9, 1 << 10, 1 << 11, 1 << 12, 1 << 13, 1 << 14, 1 << 15 };
    return ((ivec{} + static_cast<int32_t>(bits & 0xffff)) & lane) != 0;
}

// e^x for x <= 0, with a relative error of about 1e-7: 2^n times a polynomial of the remainder, with the coefficients
// of Cephes' expf.
inline vec exponential(vec x) {
    x = x < -87.0f ? vec{} - 87.0f : x;
    const vec turns = x * 1.44269504f;
    const ivec n = __builtin_convertvector(turns - 0.5f, ivec);  // x <= 0, so truncation rounds to nearest
    const vec whole = __builtin_convertvector(n, vec);
    const vec r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const ivec bits = (n + 127) << 23;
    vec power;
    std::memcpy(&power, &bits, sizeof power);
    return p * power;
}

}  // namespace tulu
