// The memory of one thread: the queries of a task, the state of their softmax, and a tile of keys and values.
#pragma once

#include "shared_cells.h"
#include "visible_cells.h"

namespace tulu {

constexpr int64_t TILE_ROWS = TILE + CELLS_MAX;  // room for a whole last block of cells

inline int64_t lanes_for(int64_t queries) { return (queries + LANES - 1) / LANES * LANES; }

struct buffers {
    float *q, *qt, *acc, *top, *total, *k, *v, *s, *added;
    int32_t * bits;

    // Numbers of 4 bytes; every buffer begins at a multiple of 16.
    static int64_t size(int64_t queries, int64_t dim) {
        const int64_t lanes = lanes_for(queries);
        return lanes * dim * 3 + lanes * 4 + TILE_ROWS * (2 * dim + lanes) + TILE;
    }

    buffers(float * memory, int64_t queries, int64_t dim) {
        const int64_t lanes = lanes_for(queries);
        const auto take = [&memory](int64_t n) { return (memory += n) - n; };
        q     = take(lanes * dim);  // [query][dim]
        qt    = take(lanes * dim);  // [dim][lane]
        acc   = take(lanes * dim);  // [query][dim]
        top   = take(lanes);
        total = take(lanes);
        k     = take(TILE_ROWS * dim);  // [cell][dim]
        v     = take(TILE_ROWS * dim);
        s     = take(TILE_ROWS * lanes);  // [cell][lane] of shared cells, [query][TILE] of own cells
        added = take(TILE);
        bits  = reinterpret_cast<int32_t *>(take(2 * lanes));  // [half of a tile][lane]: the cells that a query sees
    }
};

}  // namespace tulu
