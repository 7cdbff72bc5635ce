// Unpacks rows of weights into panels, for any instruction set. Everything here has internal linkage, because each path
// is compiled for other instructions.
//
// `isa` has:
//   LANES                32-bit numbers in a vector
//   SIGNED               bytes of weights are signed, so that an offset of 128 becomes none
//   ints, floats         vectors
//   lookup               16 bytes, indexed by nibbles
//   four_rows_apart      16 bytes of rows 0, 4, 8, … in the 128-bit lanes
//   transpose_in_lanes   transposes 4 x 4 numbers of 32 bits in each 128-bit lane
#pragma once

#include "matmul.h"
#include "unpack.h"

#ifdef _OPENMP
#include <omp.h>
#else
static int omp_get_thread_num() { return 0; }
#endif

#include <algorithm>

namespace tulu {
namespace {

constexpr int LANES = isa::LANES;

template <typename V, typename T> V load(const T * from) {
    V x;
    std::memcpy(&x, from, sizeof x);
    return x;
}

template <typename V, typename T> void store(T * to, V x) { std::memcpy(to, &x, sizeof x); }

template <typename type> constexpr bool is_signed() { return isa::SIGNED && type::OFFSET == 128; }

// Unpacks chunk number `chunk` of LANES rows, of which the first `n_rows` exist. The other rows of the panel have
// arbitrary contents.
template <typename type>
void unpack(const char * first, size_t row_bytes, int n_rows, int64_t chunk, int subs, panel<LANES> & to) {
    using block = typename type::block;
    constexpr int BLOCKS = CHUNK / type::WEIGHTS, SUBS = type::WEIGHTS / type::SUB, GROUPS = type::WEIGHTS / 4;
    rows_of<block> rows = { first + chunk * BLOCKS * sizeof(block), row_bytes };
    // Prefetch the next chunk: each row is a separate stream of memory, and the hardware prefetcher cannot track so
    // many.
    for (int r = 0; r < n_rows; r++) {
        for (size_t at = 0; at < BLOCKS * sizeof(block); at += 64) {
            __builtin_prefetch(rows.first + BLOCKS * sizeof(block) + r * row_bytes + at);
        }
    }
    block copies[LANES][BLOCKS];
    if (n_rows < LANES) {
        std::memset(copies, 0, sizeof copies);
        for (int r = 0; r < n_rows; r++) {
            std::memcpy(copies[r], &rows[r], subs / SUBS * sizeof(block));
        }
        rows = { reinterpret_cast<const char *>(copies), sizeof copies[0] };
    }
    for (int b = 0; b * SUBS < subs; b++) {
        ints packed[type::PACKED / 4];
        for (int i = 0; i < type::PACKED / 16; i++) {
            interleave(type::packed(rows[0]) + 16 * i, rows.step, packed + 4 * i);
        }
        auto * groups = reinterpret_cast<ints *>(to.bytes[b * GROUPS]);
        type::expand(packed, rows, groups);
        for (int g = 0; is_signed<type>() && g < GROUPS; g++) {
            groups[g] ^= bytes_of(128);
        }
        auto * scales = reinterpret_cast<floats *>(to.scales);
        type::scales(rows, scales + b * SUBS, scales + CHUNK / type::SUB + b * SUBS);
        rows.first += sizeof(block);
    }
}

int64_t chunks_of(const product & what) { return (what.depth + CHUNK - 1) / CHUNK; }

size_t rounded(size_t bytes) { return (bytes + 63) / 64 * 64; }

// Panels of one task: at most `most`, and fewer if there would otherwise be less than four tasks per thread.
int panels_in_task(const product & what, int n_threads, int most) {
    int panels = most;
    while (panels > 1 && what.n_rows < 4LL * n_threads * panels * LANES) {
        panels /= 2;
    }
    return panels;
}

}  // namespace
}  // namespace tulu
