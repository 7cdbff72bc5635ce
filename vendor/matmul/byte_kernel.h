// The matrix product for any instruction set: the file of a path defines `isa` and includes this file. Everything here
// has internal linkage, because each path is compiled for other instructions.
//
// The rows are divided into tasks. A task unpacks a chunk of 256 weights of its rows into panels, once for all columns,
// multiplies the columns with them tile by tile, and continues with the next chunk. Its sums stay in a buffer until the
// last chunk.
//
// Besides what panels.h uses, `isa` has:
//   TILE                 columns of the largest tile
//   begin, dot, end      sums of products of four bytes in each lane, over at most in_partial groups at a time
#pragma once

#include "panels.h"

#include <cmath>
#include <utility>

namespace tulu {
namespace {

// Maximum panels of a task: its rows / LANES.
constexpr int PANELS_MAX = 4;

inline int32_t four_bytes(const int8_t * from) {
    int32_t four;
    std::memcpy(&four, from, sizeof four);
    return four;
}

template <typename type> constexpr int offset() { return is_signed<type>() ? 0 : type::OFFSET; }

// The largest byte of an unpacked weight.
template <typename type> constexpr int largest_byte() { return is_signed<type>() ? 128 : type::LARGEST; }

// The largest power of two that is at most n.
constexpr int power_of_two(int n) { return n < 2 ? 1 : 2 * power_of_two(n / 2); }

// Multiplies N columns with P panels over `units` units of the depth. Adds to `sums` ([N][sums_step], LANES for each
// panel).
template <typename type, int N, int P>
void tile(const panel<LANES> * panels, int units, const column * columns, float * sums, int64_t sums_step) {
    constexpr int GROUPS = type::UNIT / 4, STEP = std::min(GROUPS, power_of_two(isa::in_partial(largest_byte<type>())));
    floats f[N][P];
    for (int n = 0; n < N; n++) {
        for (int p = 0; p < P; p++) {
            f[n][p] = load<floats>(sums + n * sums_step + p * LANES);
        }
    }
    for (int u = 0; u < units; u++) {
        const int j = u * type::UNIT / type::SUB;
        ints c[N][P];
        for (int n = 0; n < N; n++) {
            const int32_t start = type::MINS || offset<type>() == 0 ? 0 : columns[n].start[u];
            for (int p = 0; p < P; p++) {
                c[n][p] = ints{} + start;
            }
        }
        for (int from = 0; from < GROUPS; from += STEP) {
            typename isa::partial sum[N][P];
            for (int n = 0; n < N; n++) {
                for (int p = 0; p < P; p++) {
                    sum[n][p] = isa::begin(c[n][p]);
                }
            }
#pragma GCC unroll 8
            for (int g = u * GROUPS + from; g < u * GROUPS + from + STEP; g++) {
                ints w[P];
                for (int p = 0; p < P; p++) {
                    w[p] = load<ints>(panels[p].bytes[g]);
                }
                for (int n = 0; n < N; n++) {
                    const int32_t four = four_bytes(columns[n].bytes + 4 * g);
                    for (int p = 0; p < P; p++) {
                        sum[n][p] = isa::template dot<is_signed<type>()>(sum[n][p], w[p], four);
                    }
                }
            }
            for (int n = 0; n < N; n++) {
                for (int p = 0; p < P; p++) {
                    c[n][p] = isa::end(c[n][p], sum[n][p]);
                }
            }
        }
        for (int n = 0; n < N; n++) {
            const float scale = columns[n].scale[u];
            for (int p = 0; p < P; p++) {
                f[n][p] += __builtin_convertvector(c[n][p], floats) * scale * load<floats>(panels[p].scales[j]);
            }
            if (type::MINS) {
                for (int p = 0; p < P; p++) {
                    f[n][p] -= load<floats>(panels[p].scales[CHUNK / type::SUB + j]) * columns[n].total[u];
                }
            }
        }
    }
    for (int n = 0; n < N; n++) {
        for (int p = 0; p < P; p++) {
            store(sums + n * sums_step + p * LANES, f[n][p]);
        }
    }
}

// Panels of a tile with N columns: as many as the registers can hold.
constexpr int panels_of(int n) { return n * 4 <= isa::TILE ? 4 : n * 2 <= isa::TILE ? 2 : 1; }

template <typename type, int N>
void tiles(const panel<LANES> * panels, int n_panels, int units, const column * columns, float * sums, int64_t step) {
    constexpr int P = panels_of(N);
    int p = 0;
    for (; p + P <= n_panels; p += P) {
        tile<type, N, P>(panels + p, units, columns, sums + p * LANES, step);
    }
    for (; p < n_panels; p++) {
        tile<type, N, 1>(panels + p, units, columns, sums + p * LANES, step);
    }
}

using tiles_of = void (*)(const panel<LANES> *, int, int, const column *, float *, int64_t);

template <typename type, int... N> const tiles_of * tiles_by_count(std::integer_sequence<int, N...>) {
    static constexpr tiles_of table[] = { tiles<type, N + 1>... };
    return table;
}

// A unit becomes zeros if all its values are smaller than this: 127 divided by a smaller number would overflow.
constexpr float SMALLEST = 1e-36f;

// Quantizes 256 values of a column, or fewer at its end. If a value is not finite, the result is NaN.
template <typename type> void quantize(const float * from, int n, column & to) {
    constexpr int UNIT = type::UNIT;
    for (int u = 0; u * UNIT < n; u++) {
        const float * x = from + u * UNIT;
        float largest = 0, check = 0;
        for (int i = 0; i < UNIT; i++) {
            const float size = std::fabs(x[i]);
            largest = largest > size ? largest : size;
            check += x[i] * 0.0f;  // NaN if a value is not finite
        }
        const bool good      = check == 0.0f;
        const float to_bytes = good && largest > SMALLEST ? 127 / largest : 0;
        int32_t total = 0;
        for (int i = 0; i < UNIT; i++) {
            const auto byte = static_cast<int32_t>(std::nearbyint(good ? x[i] * to_bytes : 0.0f));
            to.bytes[u * UNIT + i] = static_cast<int8_t>(byte);
            total += byte;
        }
        to.scale[u] = good ? largest / 127 : NAN;
        if (type::MINS) {
            to.total[u] = to.scale[u] * total;
        } else {
            to.start[u] = -offset<type>() * total;
        }
    }
}

size_t columns_bytes(const product & what) { return chunks_of(what) * what.n_columns * sizeof(column); }

size_t sums_bytes(const product & what) { return rounded(what.n_columns * PANELS_MAX * LANES * sizeof(float)); }

size_t scratch_bytes(const product & what, int n_threads) {
    return columns_bytes(what) + n_threads * sums_bytes(what);
}

// Computes the rows from `first` on, at most n_panels * LANES of them, for all columns.
template <typename type>
void run_task(const product & what, const column * columns, int64_t first, int n_panels, float * sums) {
    alignas(64) panel<LANES> panels[PANELS_MAX];
    static const tiles_of * const by_count =
        tiles_by_count<type>(std::make_integer_sequence<int, isa::TILE>());
    const int64_t step = n_panels * LANES;
    const int rows     = static_cast<int>(std::min<int64_t>(step, what.n_rows - first));
    const int used     = (rows + LANES - 1) / LANES;
    std::memset(sums, 0, what.n_columns * step * sizeof(float));
    const int64_t n_tiles = (what.n_columns + isa::TILE - 1) / isa::TILE;
    for (int64_t chunk = 0; chunk < chunks_of(what); chunk++) {
        const int here  = static_cast<int>(std::min<int64_t>(CHUNK, what.depth - chunk * CHUNK));
        const int units = here / type::UNIT;
        for (int p = 0; p < used; p++) {
            unpack<type>(what.weights + (first + p * LANES) * what.row_bytes, what.row_bytes,
                         std::min(LANES, rows - p * LANES), chunk, here / type::SUB, panels[p]);
        }
        for (int64_t t = 0; t < n_tiles; t++) {
            const int64_t from = what.n_columns * t / n_tiles, to = what.n_columns * (t + 1) / n_tiles;
            by_count[to - from - 1](panels, used, units, columns + chunk * what.n_columns + from, sums + from * step, step);
        }
    }
    for (int64_t n = 0; n < what.n_columns; n++) {
        std::memcpy(what.out + n * what.out_bytes + first * sizeof(float), sums + n * step, rows * sizeof(float));
    }
}

template <typename type> void multiply_as(const product & what, int n_threads, char * memory) {
    auto * columns         = reinterpret_cast<column *>(memory);
    const int64_t n_chunks = chunks_of(what);
    const int n_panels     = panels_in_task(what, n_threads, PANELS_MAX);
    const int64_t step = n_panels * LANES, n_tasks = (what.n_rows + step - 1) / step;
#pragma omp parallel num_threads(n_threads)
    {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < n_chunks * what.n_columns; i++) {
            const int64_t chunk = i / what.n_columns, n = i % what.n_columns;
            const auto * from = reinterpret_cast<const float *>(what.columns + n * what.column_bytes) + chunk * CHUNK;
            quantize<type>(from, static_cast<int>(std::min<int64_t>(CHUNK, what.depth - chunk * CHUNK)), columns[i]);
        }
        auto * sums = reinterpret_cast<float *>(memory + columns_bytes(what) + omp_get_thread_num() * sums_bytes(what));
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < n_tasks; i++) {
            run_task<type>(what, columns, i * step, n_panels, sums);
        }
    }
}

}  // namespace
}  // namespace tulu

#include "kernel_table.h"
