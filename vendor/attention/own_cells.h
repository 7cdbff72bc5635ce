// Cells that one token sees: dot products of rows, straight from the KV cache.
#pragma once

#include "kv_rows.h"

namespace tulu {

// Cells whose dot products are computed together: as many sums as the registers can hold.
#if defined(__AVX512F__)
constexpr int CELLS = 8;
#else
constexpr int CELLS = 4;
#endif

#if defined(__AVX512F__)

// Sums of 8 vectors.
inline void sums_of(const vec * x, float * out) {
    const auto wide = [](vec v) { return (__m512) v; };
    __m512 pairs[4], fours[2];
    for (int i = 0; i < 4; i++) {
        const __m512 a = wide(x[2 * i]), b = wide(x[2 * i + 1]);
        pairs[i] = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
    }
    for (int i = 0; i < 2; i++) {
        const __m512 a = pairs[2 * i], b = pairs[2 * i + 1];
        fours[i] = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
    }
    // Lane i of 128 bits now has the partial sums of vector i, and of vector 4 + i in the other.
    const __m512 a = fours[0], b = fours[1];
    const __m512 twos = _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x88), _mm512_shuffle_ps(a, b, 0xdd));
    const __m512 ones = _mm512_add_ps(twos, _mm512_permute_ps(twos, 0xb1));
    const __m512i order = _mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 0, 14, 10, 6, 2, 12, 8, 4, 0);
    _mm256_storeu_ps(out, _mm512_castps512_ps256(_mm512_permutexvar_ps(order, ones)));
}

#else

// Sums of 4 vectors.
inline void sums_of(const vec * x, float * out) {
    for (int i = 0; i < CELLS; i++) {
        out[i] = sum(x[i]);
    }
}

#endif

// Scores of a query and CELLS cells.
template <typename rows> void dot_products(const float * q, const char * const * keys, int64_t dim, float * scores) {
    vec sums[CELLS] = {};
    for (int64_t d = 0; d < dim; d += LANES) {
        const vec query = load(q + d);
        for (int c = 0; c < CELLS; c++) {
            sums[c] += query * rows::at(keys[c], d);
        }
    }
    sums_of(sums, scores);
}

// acc ([R][dim]) += p[query][cell] * values[cell] for R queries and 16 * N of the dimensions, from `d` on. `p` has
// `p_step` numbers for each query. `value` returns the row of a cell.
template <typename rows, int R, int N, typename F>
void add_own_values(const float * p, int64_t p_step, int n, F value, int64_t dim, int64_t d, float * acc) {
    vec sums[R][N] = {};
    for (int c = 0; c < n; c++) {
        const char * row = value(c);
        for (int i = 0; i < N; i++) {
            const vec x = rows::at(row, d + i * LANES);
            for (int r = 0; r < R; r++) {
                sums[r][i] += x * p[r * p_step + c];
            }
        }
    }
    for (int r = 0; r < R; r++) {
        for (int i = 0; i < N; i++) {
            float * to = acc + r * dim + d + i * LANES;
            store(to, load(to) + sums[r][i]);
        }
    }
}

template <typename rows, int R, int N, typename F>
void add_own_of(const float * p, int64_t p_step, int n, F value, int64_t dim, float * acc) {
    int64_t d = 0;
    for (; d + N * LANES <= dim; d += N * LANES) {
        add_own_values<rows, R, N>(p, p_step, n, value, dim, d, acc);
    }
    for (; d < dim; d += LANES) {
        add_own_values<rows, R, 1>(p, p_step, n, value, dim, d, acc);
    }
}

// The same for all `queries` and all dimensions.
template <typename rows, typename F>
void add_own(int64_t queries, const float * p, int64_t p_step, int n, F value, int64_t dim, float * acc) {
#if defined(__AVX512F__)
    constexpr int FOUR = 4, ONE = 8;
#else
    constexpr int FOUR = 1, ONE = 4;
#endif
    for (; queries >= 4; queries -= 4, p += 4 * p_step, acc += 4 * dim) {
        add_own_of<rows, 4, FOUR>(p, p_step, n, value, dim, acc);
    }
    for (; queries > 0; queries--, p += p_step, acc += dim) {
        add_own_of<rows, 1, ONE>(p, p_step, n, value, dim, acc);
    }
}

}  // namespace tulu
