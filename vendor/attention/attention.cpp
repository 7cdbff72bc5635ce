// Attention for batches of many sequences on the CPU. In a KV pool that all sequences share, a token sees few cells:
// those of its own sequence and of the common prefix. ggml's kernel for few tokens tests the mask of every cell for
// every head, one head at a time; its kernel for many tokens computes a whole tile of 64 tokens by 64 cells if the mask
// of a single pair is visible.
//
// Here a task computes one key-value head for a group of tokens: first the cells that most of the group see, in tiles,
// for all queries at once (shared_cells.h), then the other cells of each token (own_cells.h). If there are few tasks, a
// task computes only a slice of the tiles, and the slices are added at the end.
//
// The softmax is the online one of "Online normalizer calculation for softmax" (arXiv:1805.02867). All sums are in f32.

#include "attention.h"

#include "../scratch.h"
#include "buffers.h"
#include "own_cells.h"
#include "shared_cells.h"
#include "visible_cells.h"

#ifdef _OPENMP
#include <omp.h>
#else
static int omp_get_thread_num() { return 0; }
#endif

#include <algorithm>
#include <cmath>
#include <cstring>

namespace tulu {
namespace {

// Rows of keys or values are prefetched this many cells ahead.
constexpr int64_t AHEAD = 16;

// e^(x - top), 0 where `seen` is not set.
vec weight(vec x, vec top, ivec seen) { return seen ? exponential(x - top) : vec{}; }

// One key-value head of a group of tokens, slice `slice` of `n_slices`.
template <typename keys, typename values> class task {
  public:
    task(const attention & op, const visible_cells & cells, buffers own, int64_t head, int64_t group)
        : op(op), cells(cells), own(own), head(head), tokens(cells.group_at(group)), heads(op.n_head / op.n_head_kv),
          queries(tokens.n_tokens() * heads), n_lanes(lanes_for(queries)) {}

    void run(int64_t slice, int64_t n_slices) {
        begin();
        for (int64_t i = tokens.n_tiles() * slice / n_slices; i < tokens.n_tiles() * (slice + 1) / n_slices; i++) {
            shared_tile(i);
        }
        for (int64_t i = 0; i < tokens.n_tokens(); i++) {
            const visible_cells::list list = cells.own(tokens.first + i);
            const int64_t tiles = (list.n + TILE - 1) / TILE, parts = std::min(tiles, n_slices);
            if (slice >= parts) {
                continue;
            }
            const int64_t last = std::min(tiles * (slice + 1) / parts * TILE, list.n);
            for (int64_t at = tiles * slice / parts * TILE; at < last; at += TILE) {
                own_tile(i, list.cells + at, static_cast<int>(std::min<int64_t>(TILE, last - at)), last - at);
            }
        }
    }

    // Writes the result.
    void finish() const {
        for (int64_t i = 0; i < queries; i++) {
            const float total = own.total[i] > 0 ? own.total[i] : 1;
            float * to = op.out + place(i) * op.dim;
            for (int64_t d = 0; d < op.dim; d += LANES) {
                store(to + d, load(own.acc + i * op.dim + d) / total);
            }
        }
    }

    // Writes the state of the softmax: [token][head][2 + dim].
    void finish_slice(float * out) const {
        for (int64_t i = 0; i < queries; i++) {
            float * to = out + place(i) * (2 + op.dim);
            to[0] = own.top[i];
            to[1] = own.total[i];
            std::memcpy(to + 2, own.acc + i * op.dim, op.dim * sizeof(float));
        }
    }

  private:
    const attention & op;
    const visible_cells & cells;
    const buffers own;
    const int64_t head;
    const visible_cells::group tokens;
    const int64_t heads, queries, n_lanes;

    // The place of a query in the result.
    int64_t place(int64_t query) const {
        return (tokens.first + query / heads) * op.n_head + head * heads + query % heads;
    }
    const char * key(int64_t cell) const { return op.k + cell * op.k_cell + head * op.k_head; }
    const char * value(int64_t cell) const { return op.v + cell * op.v_cell + head * op.v_head; }
    float mask(int64_t token, int64_t cell) const {
        uint16_t bits;
        std::memcpy(&bits, op.mask + (tokens.first + token) * op.mask_token + cell * sizeof bits, sizeof bits);
        return half_to_float(bits);
    }

    void begin() {
        for (int64_t i = 0; i < queries; i++) {
            const char * from = op.q + (tokens.first + i / heads) * op.q_token + (head * heads + i % heads) * op.q_head;
            float * to = own.q + i * op.dim;
            for (int64_t d = 0; d < op.dim; d += LANES) {
                store(to + d, load(reinterpret_cast<const float *>(from) + d));
            }
        }
        if (tokens.n_shared > 0) {
            std::fill_n(own.q + queries * op.dim, (n_lanes - queries) * op.dim, 0.0f);
            for (int64_t d = 0; d < op.dim; d++) {
                for (int64_t i = 0; i < n_lanes; i++) {
                    own.qt[d * n_lanes + i] = own.q[i * op.dim + d];
                }
            }
        }
        std::fill_n(own.acc, n_lanes * op.dim, 0.0f);
        std::fill_n(own.top, n_lanes, -INFINITY);
        std::fill_n(own.total, n_lanes, 0.0f);
    }

    void shared_tile(int64_t tile) {
        const int32_t * list = tokens.shared + tile * TILE;
        const int n = static_cast<int>(std::min<int64_t>(TILE, tokens.n_shared - tile * TILE));
        const int64_t left = tokens.n_shared - tile * TILE;
        for (int c = 0; c < n; c++) {
            if (c + TILE < left) {
                prefetch_row(key(list[c + TILE]), keys::bytes(op.dim));
                prefetch_row(value(list[c + TILE]), values::bytes(op.dim));
            }
            const char *k = key(list[c]), *v = value(list[c]);
            for (int64_t d = 0; d < op.dim; d += LANES) {
                store(own.k + c * op.dim + d, keys::at(k, d));
                store(own.v + c * op.dim + d, values::at(v, d));
            }
        }
        // The vectors of queries of which some see a cell of this tile.
        const uint64_t * bits = tokens.bits + tile * tokens.n_tokens();
        int64_t first = n_lanes, last = 0;
        bool all = true;
        for (int64_t i = 0; i < n_lanes; i++) {
            const uint64_t seen = i < queries ? bits[i / heads] : 0;
            own.bits[i] = static_cast<int32_t>(seen);
            own.bits[n_lanes + i] = static_cast<int32_t>(seen >> 32);
            all = all && (i >= queries || seen == ~0ull >> (TILE - n));
            if (seen) {
                first = std::min(first, i / LANES * LANES);
                last  = i / LANES * LANES + LANES;
            }
        }
        if (first < last) {
            shared_scores(own.qt + first, n_lanes, (last - first) / LANES, own.k, n, op.dim, op.scale, own.s + first);
            for (int64_t i = first; i < last; i += LANES) {
                if (cells.has_values()) {
                    add_mask(list, n, i);
                }
                all ? weigh_shared<true>(n, i) : weigh_shared<false>(n, i);
                add_shared(own.s + i, n_lanes, n, own.v, op.dim, own.acc + i * op.dim);
            }
        }
    }

    void add_mask(const int32_t * list, int n, int64_t first) {
        for (int64_t i = first; i < std::min(first + LANES, queries); i++) {
            for (int c = 0; c < n; c++) {
                own.s[c * n_lanes + i] += mask(i / heads, list[c]);
            }
        }
    }

    // Converts the scores of 16 queries to attention weights.
    template <bool all> void weigh_shared(int n, int64_t first) {
        ivec low, high;
        std::memcpy(&low, own.bits + first, sizeof low);
        std::memcpy(&high, own.bits + n_lanes + first, sizeof high);
        const auto seen = [=](int c) {
            if (all) {
                return ivec{} - 1;
            }
            const ivec bit = (c < 32 ? low >> c : high >> (c - 32)) & 1;
            return ivec{} - bit;
        };
        float * scores = own.s + first;
        const vec old = load(own.top + first);
        vec top = old;
        for (int c = 0; c < n; c++) {
            const vec score = load(scores + c * n_lanes);
            top = seen(c) & (score > top) ? score : top;
        }
        const vec base = top > vec{} - INFINITY ? top : vec{};  // no cell seen yet: any number will do
        vec total = {};
        for (int c = 0; c < n; c++) {
            const vec p = weight(load(scores + c * n_lanes), base, seen(c));
            total += p;
            store(scores + c * n_lanes, p);
        }
        vec shrink = exponential(old - base);
        shrink = top > old ? shrink : vec{} + 1;
        store(own.top + first, top);
        store(own.total + first, load(own.total + first) * shrink + total);
        for (int i = 0; i < LANES; i++) {
            if (shrink[i] != 1) {
                scale(own.acc + (first + i) * op.dim, shrink[i]);
            }
        }
    }

    void scale(float * row, float factor) {
        for (int64_t d = 0; d < op.dim; d += LANES) {
            store(row + d, load(row + d) * factor);
        }
    }

    // Computes `n` cells of token number `token` of the group; the list goes on for `left` cells.
    void own_tile(int64_t token, const int32_t * list, int n, int64_t left) {
        const float * q = own.q + token * heads * op.dim;
        for (int c = 0; c < n; c += CELLS) {
            const char * rows[CELLS];
            for (int i = 0; i < CELLS; i++) {
                rows[i] = key(list[std::min(c + i, n - 1)]);
                prefetch_row(key(list[std::min<int64_t>(c + i + AHEAD, left - 1)]), keys::bytes(op.dim));
            }
            if (heads == 1) {
                dot_products<keys>(q, rows, op.dim, own.s + c);
                continue;
            }
            for (int i = 0; i < CELLS; i++) {
                for (int64_t d = 0; d < op.dim; d += LANES) {
                    store(own.k + i * op.dim + d, keys::at(rows[i], d));
                }
                rows[i] = reinterpret_cast<const char *>(own.k + i * op.dim);
            }
            for (int64_t h = 0; h < heads; h++) {
                dot_products<float_rows>(q + h * op.dim, rows, op.dim, own.s + h * TILE + c);
            }
        }
        if (cells.has_values()) {
            for (int c = 0; c < n; c++) {
                own.added[c] = mask(token, list[c]);
            }
        }
        for (int64_t h = 0; h < heads; h++) {
            weigh_own(token * heads + h, own.s + h * TILE, n);
        }
        const auto row = [=](int c) {
            prefetch_row(value(list[std::min<int64_t>(c + AHEAD, left - 1)]), values::bytes(op.dim));
            return value(list[c]);
        };
        add_own<values>(heads, own.s, TILE, n, row, op.dim, own.acc + token * heads * op.dim);
    }

    // Converts the `n` scores of one query to attention weights.
    void weigh_own(int64_t query, float * s, int n) {
        const uint64_t here = ~0ull >> (TILE - n);
        vec tops = vec{} - INFINITY;
        for (int part = 0; part < n; part += LANES) {
            vec score = load(s + part) * op.scale;
            if (cells.has_values()) {
                score += load(own.added + part);
            }
            store(s + part, score);
            tops = lanes(here >> part) & (score > tops) ? score : tops;
        }
        const float top = std::max(own.top[query], largest(tops));
        if (top > own.top[query]) {
            const float shrink = std::exp(own.top[query] - top);
            own.top[query] = top;
            own.total[query] *= shrink;
            scale(own.acc + query * op.dim, shrink);
        }
        vec total = {};
        for (int part = 0; part < n; part += LANES) {
            const vec p = weight(load(s + part), vec{} + top, lanes(here >> part));
            total += p;
            store(s + part, p);
        }
        own.total[query] += sum(total);
    }
};

// Adds the slices of a query: [slice][token][head][2 + dim].
void join(const attention & op, const float * slices, int64_t n_slices, int64_t query) {
    const int64_t size = 2 + op.dim, step = op.n_tokens * op.n_head * size;
    const float * first = slices + query * size;
    float top = -INFINITY, total = 0;
    for (int64_t i = 0; i < n_slices; i++) {
        top = std::max(top, first[i * step]);
    }
    float * to = op.out + query * op.dim;
    std::fill_n(to, op.dim, 0.0f);
    for (int64_t i = 0; i < n_slices; i++) {
        const float * one = first + i * step;
        const float factor = one[1] > 0 ? std::exp(one[0] - top) : 0;
        total += factor * one[1];
        for (int64_t d = 0; d < op.dim; d++) {
            to[d] += factor * one[2 + d];
        }
    }
    for (int64_t d = 0; d < op.dim; d++) {
        to[d] /= total > 0 ? total : 1;
    }
}

template <typename keys, typename values>
void run(const attention & op, const visible_cells & cells, char * memory, int64_t n_slices, float * slices) {
    const int64_t n_groups = cells.n_groups(), n_tasks = op.n_head_kv * n_groups * n_slices;
    const int64_t queries = cells.group_at(0).n_tokens() * (op.n_head / op.n_head_kv), size = buffers::size(queries, op.dim);
#pragma omp parallel num_threads(op.n_threads)
    {
        const buffers mine(reinterpret_cast<float *>(memory) + omp_get_thread_num() * size, queries, op.dim);
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < n_tasks; i++) {
            // The last tokens of a prompt see the most cells: begin with them.
            const int64_t slice = i % n_slices, group = n_groups - 1 - i / n_slices % n_groups;
            task<keys, values> one(op, cells, mine, i / n_slices / n_groups, group);
            one.run(slice, n_slices);
            if (slices) {
                one.finish_slice(slices + slice * op.n_tokens * op.n_head * (2 + op.dim));
            } else {
                one.finish();
            }
        }
        if (slices) {
#pragma omp for
            for (int64_t i = 0; i < op.n_tokens * op.n_head; i++) {
                join(op, slices, n_slices, i);
            }
        }
    }
}

}  // namespace

bool attention_is_built() {
#if defined(_OPENMP) && defined(__AVX2__) && defined(__F16C__)
    return true;
#else
    return false;
#endif
}

struct attention_kernel::state {
    visible_cells cells;
    scratch buffers, slices;
};

attention_kernel::attention_kernel() : own(new state) {}
attention_kernel::~attention_kernel() = default;

void attention_kernel::compute(const attention & op) {
    // Allocate before the parallel region: exceptions must not escape an OpenMP region.
    own->cells.update(op);
    const visible_cells & cells = own->cells;
    const int64_t heads = op.n_head / op.n_head_kv;
    // For one sequence, the slices must not depend on the number of tokens.
    const int64_t tasks = op.n_head_kv * (cells.one_sequence() ? 1 : cells.n_groups());
    const int64_t n_slices = std::clamp<int64_t>(4 * op.n_threads / tasks, 1, std::max<int64_t>(1, cells.n_tiles_max()));
    const int64_t bytes = op.n_threads * buffers::size(cells.group_at(0).n_tokens() * heads, op.dim) * sizeof(float);
    char * memory = own->buffers.take(bytes);
    float * slices = nullptr;
    if (n_slices > 1) {
        slices = reinterpret_cast<float *>(
            own->slices.take(n_slices * op.n_tokens * op.n_head * (2 + op.dim) * sizeof(float)));
    }
    using run_of = void (*)(const attention &, const visible_cells &, char *, int64_t, float *);
    constexpr run_of RUNS[2][2] = { { run<f16_rows, f16_rows>, run<f16_rows, q8_0_rows> },
                                    { run<q8_0_rows, f16_rows>, run<q8_0_rows, q8_0_rows> } };
    RUNS[static_cast<int>(op.k_type)][static_cast<int>(op.v_type)](op, cells, memory, n_slices, slices);
}

}  // namespace tulu
