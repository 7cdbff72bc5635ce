// The matrix product in bfloat16 with AMX tiles. The file of a path defines `isa` and `pack` and includes this file.
//
// The tile instruction multiplies 16 columns with 16 rows of weights over a depth of 32 and adds to f32 sums. Weights
// are unpacked to bytes as for the other paths, then widened to bfloat16. Both factors have 8 significant bits, so the
// error is smaller than with bytes, which have one scale for 16 or more values.
//
// A task unpacks DEEP weights of its rows, multiplies all columns with them, and continues with the next DEEP weights.
// Its blocks are sized for the L1 cache (two tiles of columns and two of rows, DEEP deep: 64 KiB, of which the rows
// change faster) and the L2 cache (the rows of the task and its sums).
//
// `isa` is as in panels.h, with 16 LANES. `pack(even, odd)` rounds two vectors to bfloat16 and interleaves them, the
// even numbers in the lower halves. The instructions are Intel's intrinsics, which a test replaces.
#pragma once

#include "panels.h"

namespace tulu {
namespace {

static_assert(LANES == 16, "a tile has 16 rows");

constexpr int TILE = 16, TILE_DEPTH = 32;  // columns or rows of a tile, and its depth
constexpr int DEEP = 2 * CHUNK, TILES_DEEP = DEEP / TILE_DEPTH;
constexpr int PANELS_MAX = 8;

// Weights of 16 rows: pairs of consecutive weights of each row, 16 pairs deep.
struct alignas(64) weight_tile {
    uint32_t pairs[TILE_DEPTH / 2][TILE];
};

// Values of 16 columns.
struct alignas(64) column_tile {
    uint16_t values[TILE][TILE_DEPTH];
};

// Sums of 16 columns with 16 rows.
struct alignas(64) sum_tile {
    float values[TILE][TILE];
};

// Multiplies C tiles of columns (`column_step` apart) with P tiles of rows (`weight_step` apart), `n` tiles deep. Adds
// to `sums` (`sum_step` apart for the second tile of columns), or replaces them if `first`.
template <int C, int P>
void multiply_tiles(const column_tile * columns, int64_t column_step, const weight_tile * weights, int64_t weight_step,
                    int n, sum_tile * sums, int64_t sum_step, bool first) {
    constexpr size_t STRIDE = 64;
    asm volatile("" ::: "memory");  // GCC 12 does not know that the tile instructions access memory
    if (first) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    } else {
        _tile_loadd(0, sums, STRIDE);
        if constexpr (P == 2) { _tile_loadd(1, sums + 1, STRIDE); }
        if constexpr (C == 2) { _tile_loadd(2, sums + sum_step, STRIDE); }
        if constexpr (C == 2 && P == 2) { _tile_loadd(3, sums + sum_step + 1, STRIDE); }
    }
    for (int k = 0; k < n; k++) {
        _tile_loadd(4, columns + k, STRIDE);
        _tile_loadd(6, weights + k, STRIDE);
        _tile_dpbf16ps(0, 4, 6);
        if constexpr (P == 2) {
            _tile_loadd(7, weights + weight_step + k, STRIDE);
            _tile_dpbf16ps(1, 4, 7);
        }
        if constexpr (C == 2) {
            _tile_loadd(5, columns + column_step + k, STRIDE);
            _tile_dpbf16ps(2, 5, 6);
        }
        if constexpr (C == 2 && P == 2) { _tile_dpbf16ps(3, 5, 7); }
    }
    _tile_stored(0, sums, STRIDE);
    if constexpr (P == 2) { _tile_stored(1, sums + 1, STRIDE); }
    if constexpr (C == 2) { _tile_stored(2, sums + sum_step, STRIDE); }
    if constexpr (C == 2 && P == 2) { _tile_stored(3, sums + sum_step + 1, STRIDE); }
    asm volatile("" ::: "memory");
}

// Configures all tiles for 16 rows of 64 bytes. Restores the previous configuration at the end, because ggml configures
// a thread only once.
class tile_configuration {
  public:
    tile_configuration() {
        _tile_storeconfig(&before);
        layout mine  = {};
        mine.palette = 1;
        std::fill_n(mine.bytes, 8, 64);
        std::fill_n(mine.rows, 8, TILE);
        _tile_loadconfig(&mine);
    }
    ~tile_configuration() {
        if (before.palette == 0) {
            _tile_release();
        } else {
            _tile_loadconfig(&before);
        }
    }
    tile_configuration(const tile_configuration &)             = delete;
    tile_configuration & operator=(const tile_configuration &) = delete;

  private:
    struct alignas(64) layout {
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    };
    layout before;
};

// Widens the first `groups` groups of a panel.
template <typename type> void widen(const panel<LANES> & from, int groups, weight_tile * to) {
    constexpr int SUBS = CHUNK / type::SUB;
    for (int g = 0; g < groups; g++) {
        const int j        = 4 * g / type::SUB;
        const floats scale = load<floats>(from.scales[j]);
        const floats min   = type::MINS ? load<floats>(from.scales[SUBS + j]) : scale * static_cast<float>(type::OFFSET);
        const ints bytes   = load<ints>(from.bytes[g]);
        floats w[4];
        for (int i = 0; i < 4; i++) {
            w[i] = to_floats(byte(bytes, i)) * scale - min;
        }
        constexpr int IN_TILE = TILE_DEPTH / 4;
        store(to[g / IN_TILE].pairs[2 * (g % IN_TILE)], pack(w[0], w[1]));
        store(to[g / IN_TILE].pairs[2 * (g % IN_TILE) + 1], pack(w[2], w[3]));
    }
}

// Rounds to bfloat16, to nearest even. A number that is not finite becomes NaN, so that it stays visible in all rows.
inline uint16_t to_bf16(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    const bool finite = (bits & 0x7fffffff) < 0x7f800000;
    return static_cast<uint16_t>(finite ? (bits + 0x7fff + (bits >> 16 & 1)) >> 16 : 0x7fc0);
}

int64_t column_tiles_of(const product & what) { return (what.n_columns + TILE - 1) / TILE; }

int64_t deep_tiles_of(const product & what) { return what.depth / TILE_DEPTH; }

// Rounds a tile of columns, from column `first` and depth `at` on. Columns beyond the last become zeros.
void round_columns(const product & what, int64_t first, int64_t at, column_tile & to) {
    for (int i = 0; i < TILE; i++) {
        if (first + i >= what.n_columns) {
            std::memset(to.values[i], 0, sizeof to.values[i]);
            continue;
        }
        const auto * from = reinterpret_cast<const float *>(what.columns + (first + i) * what.column_bytes) + at;
        for (int k = 0; k < TILE_DEPTH; k++) {
            to.values[i][k] = to_bf16(from[k]);
        }
    }
}

size_t columns_bytes(const product & what) { return column_tiles_of(what) * deep_tiles_of(what) * sizeof(column_tile); }

size_t task_bytes(const product & what) {
    return PANELS_MAX * (TILES_DEEP * sizeof(weight_tile) + column_tiles_of(what) * sizeof(sum_tile));
}

size_t scratch_bytes(const product & what, int n_threads) { return columns_bytes(what) + n_threads * task_bytes(what); }

// Unpacks TILES_DEEP tiles, or fewer at the end of the rows, of LANES rows, of which the first `n_rows` exist. Returns
// the number of tiles.
template <typename type>
int unpack_tiles(const product & what, int64_t first, int n_rows, int64_t from, weight_tile * to) {
    const int64_t end = std::min<int64_t>(from + DEEP, what.depth);
    for (int64_t at = from; at < end; at += CHUNK) {
        const int here = static_cast<int>(std::min<int64_t>(CHUNK, end - at));
        panel<LANES> bytes;
        unpack<type>(what.weights + first * what.row_bytes, what.row_bytes, n_rows, at / CHUNK, here / type::SUB, bytes);
        widen<type>(bytes, here / 4, to + (at - from) / TILE_DEPTH);
    }
    return static_cast<int>((end - from) / TILE_DEPTH);
}

// Computes the rows from `first` on, at most n_panels * LANES of them, for all columns.
template <typename type>
void run_task(const product & what, const column_tile * columns, int64_t first, int n_panels, char * memory) {
    auto * weights     = reinterpret_cast<weight_tile *>(memory);
    auto * sums        = reinterpret_cast<sum_tile *>(memory + PANELS_MAX * TILES_DEEP * sizeof(weight_tile));
    const int rows     = static_cast<int>(std::min<int64_t>(n_panels * LANES, what.n_rows - first));
    const int used     = (rows + LANES - 1) / LANES;
    const int64_t deep = deep_tiles_of(what), n_tiles = column_tiles_of(what);
    for (int64_t from = 0; from < what.depth; from += DEEP) {
        int n = 0;
        for (int p = 0; p < used; p++) {
            n = unpack_tiles<type>(what, first + p * LANES, std::min(LANES, rows - p * LANES), from,
                                   weights + p * TILES_DEEP);
        }
        for (int64_t t = 0; t < n_tiles; t += 2) {
            const column_tile * x = columns + t * deep + from / TILE_DEPTH;
            for (int p = 0; p < used; p += 2) {
                const bool two = t + 1 < n_tiles, pair = p + 1 < used;
                const auto call = two ? (pair ? multiply_tiles<2, 2> : multiply_tiles<2, 1>)
                                      : (pair ? multiply_tiles<1, 2> : multiply_tiles<1, 1>);
                call(x, deep, weights + p * TILES_DEEP, TILES_DEEP, n, sums + t * used + p, used, from == 0);
            }
        }
    }
    for (int64_t n = 0; n < what.n_columns; n++) {
        char * to = what.out + n * what.out_bytes + first * sizeof(float);
        for (int p = 0; p < used; p++) {
            const size_t bytes = std::min(LANES, rows - p * LANES) * sizeof(float);
            std::memcpy(to + p * LANES * sizeof(float), sums[n / TILE * used + p].values[n % TILE], bytes);
        }
    }
}

template <typename type> void multiply_as(const product & what, int n_threads, char * memory) {
    auto * columns     = reinterpret_cast<column_tile *>(memory);
    const int64_t deep = deep_tiles_of(what);
    const int n_panels = panels_in_task(what, n_threads, PANELS_MAX);
    const int64_t step = n_panels * LANES, n_tasks = (what.n_rows + step - 1) / step;
#pragma omp parallel num_threads(n_threads)
    {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < column_tiles_of(what) * deep; i++) {
            round_columns(what, i / deep * TILE, i % deep * TILE_DEPTH, columns[i]);
        }
        char * mine = memory + columns_bytes(what) + omp_get_thread_num() * task_bytes(what);
        const tile_configuration configured;
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < n_tasks; i++) {
            run_task<type>(what, columns, i * step, n_panels, mine);
        }
    }
}

}  // namespace
}  // namespace tulu

#include "kernel_table.h"
