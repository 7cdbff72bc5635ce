// Attention for batches of many sequences on the CPU. In a KV pool that all sequences share, a token attends to few
// cells: those of its own sequence and of the common prefix. ggml's kernel for few tokens tests the mask of every cell
// for every head, one head at a time; its kernel for many tokens computes a whole tile of 64 tokens by 64 cells if the
// mask of a single pair is visible.
//
// Here the mask is converted once into a bitmap (one bit per cell), which all heads use. Keys and values of 64 cells
// are converted to f32 once for all tokens and query heads that attend to some of them. Only visible scores are
// computed: 16 cells at a time where a token attends to most of the 16, else cell by cell.
//
// The softmax is the online one of "Online normalizer calculation for softmax" (arXiv:1805.02867). All sums are in f32.

#include "attention.h"

#include "simd16.h"

#ifdef _OPENMP
#include <omp.h>
#else
static int omp_get_thread_num() { return 0; }
#endif

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace tulu {
namespace {

constexpr int TILE = 64;  // cells in a tile: one bit each in a 64-bit word
constexpr int QUERIES = 64;  // approximate queries (query heads × tokens) of one task
constexpr int BLOCK = 4;  // queries multiplied together
constexpr uint16_t HIDDEN = 0xfc00;  // minus infinity

// Multiplies N queries (dim floats each) with the transposed keys of 16 cells: [dim][16].
template <int N> void scores_of_16(const float * const * q, const float * kt, int64_t dim, float * const * out) {
    vec acc[N] = {};
    for (int64_t d = 0; d < dim; d++) {
        const vec keys = load(kt + d * LANES);
        for (int i = 0; i < N; i++) {
            acc[i] += q[i][d] * keys;
        }
    }
    for (int i = 0; i < N; i++) {
        store(out[i], acc[i]);
    }
}

float score_of_one(const float * q, const float * key, int64_t dim) {
    vec acc = {};
    for (int64_t d = 0; d < dim; d += LANES) {
        acc += load(q + d) * load(key + d);
    }
    return sum(acc);
}

// acc += p[cell] * values[cell] for the cells in `bits`, for 16 * N of the dimensions.
template <int N> void add_values(uint64_t bits, const float * p, const float * values, int64_t dim, float * acc) {
    vec sums[N];
    for (int i = 0; i < N; i++) {
        sums[i] = load(acc + i * LANES);
    }
    for (; bits; bits &= bits - 1) {
        const int cell = __builtin_ctzll(bits);
        for (int i = 0; i < N; i++) {
            sums[i] += p[cell] * load(values + cell * dim + i * LANES);
        }
    }
    for (int i = 0; i < N; i++) {
        store(acc + i * LANES, sums[i]);
    }
}

// Buffers of one thread.
struct scratch {
    std::vector<float> q, k, kt, v, s, acc, top, total;
    std::vector<int64_t> many;

    scratch(int64_t queries, int64_t dim)
        : q(queries * dim), k(TILE * dim), kt(LANES * dim), v(TILE * dim), s(queries * TILE), acc(queries * dim),
          top(queries), total(queries), many(queries) {}
};

// Computes one key-value head for the tokens [first, last).
class task {
  public:
    task(const attention & op, const uint64_t * seen, bool added, scratch & own, int64_t head, int64_t first, int64_t last)
        : op(op), seen(seen), added(added), own(own), head(head), first(first), last(last),
          group(op.n_head / op.n_head_kv), tiles((op.n_kv + TILE - 1) / TILE) {}

    void run() {
        begin();
        for (int64_t tile = 0; tile < tiles; tile++) {
            uint64_t any = 0;
            for (int64_t token = first; token < last; token++) {
                any |= bits(token, tile);
            }
            if (any) {
                convert(tile, any);
                score(tile, any);
                for (int64_t i = 0; i < queries(); i++) {
                    accumulate(tile, i);
                }
            }
        }
        finish();
    }

  private:
    const attention & op;
    const uint64_t * seen;
    const bool added;
    scratch & own;
    const int64_t head, first, last, group, tiles;

    int64_t queries() const { return (last - first) * group; }
    int64_t token(int64_t query) const { return first + query / group; }
    uint64_t bits(int64_t token, int64_t tile) const { return seen[token * tiles + tile]; }

    void begin() {
        for (int64_t i = 0; i < queries(); i++) {
            const char * from = op.q + token(i) * op.q_token + (head * group + i % group) * op.q_head;
            float * to = own.q.data() + i * op.dim;
            std::memcpy(to, from, op.dim * sizeof(float));
            for (int64_t d = 0; d < op.dim; d++) {
                to[d] *= op.scale;
            }
        }
        std::fill_n(own.acc.begin(), queries() * op.dim, 0.0f);
        std::fill_n(own.top.begin(), queries(), -INFINITY);
        std::fill_n(own.total.begin(), queries(), 0.0f);
    }

    void convert(int64_t tile, uint64_t any) {
        for (; any; any &= any - 1) {
            const int cell = __builtin_ctzll(any);
            const int64_t at = tile * TILE + cell;
            const char * k = op.k + at * op.k_cell + head * op.k_head;
            const char * v = op.v + at * op.v_cell + head * op.v_head;
            for (int64_t d = 0; d < op.dim; d += LANES) {
                store(own.k.data() + cell * op.dim + d, load_halves(k + 2 * d));
                store(own.v.data() + cell * op.dim + d, load_halves(v + 2 * d));
            }
        }
    }

    void score(int64_t tile, uint64_t any) {
        for (int part = 0; part < TILE; part += LANES) {
            if (!((any >> part) & 0xffff)) {
                continue;
            }
            const float * keys = own.k.data() + part * op.dim;
            // Transposing the keys pays off if several queries attend to most of the 16 cells.
            int64_t many = 0;
            for (int64_t i = 0; i < queries(); i++) {
                const uint64_t here = (bits(token(i), tile) >> part) & 0xffff;
                if (__builtin_popcountll(here) >= LANES / 2) {
                    own.many[many++] = i;
                } else {
                    one_by_one(keys, here, i, part);
                }
            }
            if (many < BLOCK) {
                for (int64_t i = 0; i < many; i++) {
                    one_by_one(keys, (bits(token(own.many[i]), tile) >> part) & 0xffff, own.many[i], part);
                }
                continue;
            }
            for (int cell = 0; cell < LANES; cell++) {
                for (int64_t d = 0; d < op.dim; d++) {
                    own.kt[d * LANES + cell] = keys[cell * op.dim + d];
                }
            }
            int64_t i = 0;
            for (; i + BLOCK <= many; i += BLOCK) {
                sixteen<BLOCK>(own.many.data() + i, part);
            }
            for (; i < many; i++) {
                sixteen<1>(own.many.data() + i, part);
            }
        }
    }

    void one_by_one(const float * keys, uint64_t here, int64_t i, int part) {
        for (; here; here &= here - 1) {
            const int cell = __builtin_ctzll(here);
            const float * query = own.q.data() + i * op.dim;
            own.s[i * TILE + part + cell] = score_of_one(query, keys + cell * op.dim, op.dim);
        }
    }

    template <int N> void sixteen(const int64_t * which, int part) {
        const float * q[N];
        float * out[N];
        for (int i = 0; i < N; i++) {
            q[i]   = own.q.data() + which[i] * op.dim;
            out[i] = own.s.data() + which[i] * TILE + part;
        }
        scores_of_16<N>(q, own.kt.data(), op.dim, out);
    }

    // Converts the scores of one query in a tile to attention weights, and adds the weighted values.
    void accumulate(int64_t tile, int64_t i) {
        const uint64_t here = bits(token(i), tile);
        if (!here) {
            return;
        }
        float * s = own.s.data() + i * TILE;
        const uint16_t * mask_row = reinterpret_cast<const uint16_t *>(op.mask + token(i) * op.mask_token) + tile * TILE;
        if (added) {
            for (uint64_t left = here; left; left &= left - 1) {
                const int cell = __builtin_ctzll(left);
                s[cell] += ggml_fp16_to_fp32(mask_row[cell]);
            }
        }
        vec tops = vec{} - INFINITY;
        for (int part = 0; part < TILE; part += LANES) {
            const vec score = lanes(here >> part) ? load(s + part) : vec{} - INFINITY;
            tops = score > tops ? score : tops;
            store(s + part, score);
        }
        const float top = std::max(own.top[i], largest(tops));
        float * acc = own.acc.data() + i * op.dim;
        if (top > own.top[i]) {
            const float shrink = std::exp(own.top[i] - top);
            own.top[i] = top;
            own.total[i] *= shrink;
            for (int64_t d = 0; d < op.dim; d++) {
                acc[d] *= shrink;
            }
        }
        vec total = {};
        for (int part = 0; part < TILE; part += LANES) {
            if ((here >> part) & 0xffff) {
                const vec p = lanes(here >> part) ? exponential(load(s + part) - top) : vec{};
                total += p;
                store(s + part, p);
            }
        }
        own.total[i] += sum(total);
        const float * values = own.v.data();
        int64_t d = 0;
        for (; d + 8 * LANES <= op.dim; d += 8 * LANES) {
            add_values<8>(here, s, values + d, op.dim, acc + d);
        }
        for (; d + 4 * LANES <= op.dim; d += 4 * LANES) {
            add_values<4>(here, s, values + d, op.dim, acc + d);
        }
        for (; d < op.dim; d += LANES) {
            add_values<1>(here, s, values + d, op.dim, acc + d);
        }
    }

    void finish() {
        for (int64_t i = 0; i < queries(); i++) {
            const float * acc = own.acc.data() + i * op.dim;
            float * to = op.out + (token(i) * op.n_head + head * group + i % group) * op.dim;
            const float factor = own.total[i] > 0 ? 1 / own.total[i] : 0;
            for (int64_t d = 0; d < op.dim; d++) {
                to[d] = acc[d] * factor;
            }
        }
    }
};

}  // namespace

bool attention_is_built() {
#if defined(_OPENMP) && defined(__AVX2__) && defined(__F16C__)
    return true;
#else
    return false;
#endif
}

void attend(const attention & op) {
    const int64_t tiles = (op.n_kv + TILE - 1) / TILE, group = op.n_head / op.n_head_kv;
    // Several tasks per thread for load balancing.
    const int64_t wanted = std::max<int64_t>(1, 4 * op.n_threads / op.n_head_kv);
    const int64_t step =
        std::clamp<int64_t>(op.n_tokens / wanted, 1, std::max<int64_t>(1, QUERIES / group));
    const int64_t parts = (op.n_tokens + step - 1) / step;
    // Allocate before the parallel region: exceptions must not escape an OpenMP region.
    std::vector<uint64_t> seen(op.n_tokens * tiles);
    std::vector<scratch> own(op.n_threads, scratch(step * group, op.dim));
    bool added = false;
#pragma omp parallel num_threads(op.n_threads)
    {
#pragma omp for reduction(|| : added)
        for (int64_t token = 0; token < op.n_tokens; token++) {
            const uint16_t * mask_row = reinterpret_cast<const uint16_t *>(op.mask + token * op.mask_token);
            for (int64_t cell = 0; cell < op.n_kv; cell++) {
                const uint64_t visible = mask_row[cell] != HIDDEN;
                seen[token * tiles + cell / TILE] |= visible << (cell % TILE);
                added = added || (visible && mask_row[cell] != 0);
            }
        }
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < op.n_head_kv * parts; i++) {
            const int64_t first = i % parts * step;
            scratch & mine = own[omp_get_thread_num()];
            task(op, seen.data(), added, mine, i / parts, first, std::min(first + step, op.n_tokens)).run();
        }
    }
}

}  // namespace tulu
