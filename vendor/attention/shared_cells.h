// Cells that most queries of a group see. The lanes of a vector are 16 queries, so that scores and attention weights
// need no horizontal sums.
#pragma once

#include "../simd16.h"

#include <algorithm>

namespace tulu {

// Cells of a tile are computed in blocks of this many at most; the buffers of a tile have room for a whole last block.
constexpr int CELLS_MAX = 12;

// A dot product is summed in parts of this many values, so that fewer roundings add up.
constexpr int64_t PART = 16;

// Scores (scale * q k^T) of C cells (`keys`: [C][dim]) and 16 * B queries (`q`: [dim][n_lanes]); `scores` is
// [C][n_lanes].
template <int B, int C>
void scores_of(const float * q, int64_t n_lanes, const float * keys, int64_t dim, float scale, float * scores) {
    for (int64_t from = 0; from < dim; from += PART) {
        vec sums[C][B] = {};
        for (int64_t d = from; d < std::min(from + PART, dim); d++) {
            vec queries[B];
            for (int b = 0; b < B; b++) {
                queries[b] = load(q + d * n_lanes + b * LANES);
            }
            for (int c = 0; c < C; c++) {
                for (int b = 0; b < B; b++) {
                    sums[c][b] += queries[b] * keys[c * dim + d];
                }
            }
        }
        const float factor = from + PART < dim ? 1 : scale;
        for (int c = 0; c < C; c++) {
            for (int b = 0; b < B; b++) {
                float * to = scores + c * n_lanes + b * LANES;
                store(to, (from ? load(to) + sums[c][b] : sums[c][b]) * factor);
            }
        }
    }
}

// acc ([R][dim]) += p[cell][query] * values[cell] for R queries and 16 * N of the dimensions. `p` is [n][n_lanes].
template <int R, int N>
void add_shared_values(const float * p, int64_t n_lanes, int n, const float * values, int64_t dim, float * acc) {
    vec sums[R][N] = {};
    for (int c = 0; c < n; c++) {
        vec value[N];
        for (int i = 0; i < N; i++) {
            value[i] = load(values + c * dim + i * LANES);
        }
        for (int r = 0; r < R; r++) {
            for (int i = 0; i < N; i++) {
                sums[r][i] += value[i] * p[c * n_lanes + r];
            }
        }
    }
    for (int r = 0; r < R; r++) {
        for (int i = 0; i < N; i++) {
            float * to = acc + r * dim + i * LANES;
            store(to, load(to) + sums[r][i]);
        }
    }
}

// As many sums as the registers can hold.
#if defined(__AVX512F__)
constexpr int ROWS = 4, VECTORS = 4;
#else
constexpr int ROWS = 2, VECTORS = 2;
#endif

template <int B, int C>
void scores_of_all(const float * q, int64_t n_lanes, const float * keys, int n, int64_t dim, float scale, float * scores) {
    for (int c = 0; c < n; c += C) {
        scores_of<B, C>(q, n_lanes, keys + c * dim, dim, scale, scores + c * n_lanes);
    }
}

// Scores of `n` cells and the queries of `n_blocks` vectors.
inline void shared_scores(const float * q, int64_t n_lanes, int64_t n_blocks, const float * keys, int n, int64_t dim,
                          float scale, float * scores) {
#if defined(__AVX512F__)
    for (; n_blocks >= 4; n_blocks -= 4, q += 4 * LANES, scores += 4 * LANES) {
        scores_of_all<4, 6>(q, n_lanes, keys, n, dim, scale, scores);
    }
    for (; n_blocks >= 2; n_blocks -= 2, q += 2 * LANES, scores += 2 * LANES) {
        scores_of_all<2, 8>(q, n_lanes, keys, n, dim, scale, scores);
    }
    constexpr int C = 12;
#else
    constexpr int C = 4;
#endif
    static_assert(C <= CELLS_MAX, "the buffers have room for a block");
    for (; n_blocks > 0; n_blocks--, q += LANES, scores += LANES) {
        scores_of_all<1, C>(q, n_lanes, keys, n, dim, scale, scores);
    }
}

// acc ([16][dim]) += p * values for the 16 queries of a vector.
inline void add_shared(const float * p, int64_t n_lanes, int n, const float * values, int64_t dim, float * acc) {
    for (int r = 0; r < LANES; r += ROWS) {
        int64_t d = 0;
        for (; d + VECTORS * LANES <= dim; d += VECTORS * LANES) {
            add_shared_values<ROWS, VECTORS>(p + r, n_lanes, n, values + d, dim, acc + r * dim + d);
        }
        for (; d < dim; d += LANES) {
            add_shared_values<ROWS, 1>(p + r, n_lanes, n, values + d, dim, acc + r * dim + d);
        }
    }
}

}  // namespace tulu
