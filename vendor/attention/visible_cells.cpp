#include "visible_cells.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <algorithm>

namespace tulu {
namespace {

constexpr uint16_t HIDDEN = 0xfc00;  // minus infinity
constexpr int64_t QUERIES = 64;  // approximate queries (query heads x tokens) of a group
constexpr int64_t QUERY_LANES = 16;  // queries that are multiplied with a shared cell at once
constexpr int64_t TOKENS_FEW = 32;  // maximum tokens for which the lists of one sequence are not shared

// Whether a cell that `count` of `tokens` tokens see is shared. The kernel of shared cells computes full vectors of
// queries. It is the faster one if at least three quarters of their lanes see the cell.
constexpr int64_t count_min(int64_t tokens, int64_t heads) {
    const int64_t lanes = (tokens * heads + QUERY_LANES - 1) / QUERY_LANES * QUERY_LANES;
    return (3 * lanes + 4 * heads - 1) / (4 * heads);
}

// Bits of the cells in `n` <= 64 mask values that are not hidden. `other` becomes true if one of these is not 0.
uint64_t visible(const uint16_t * mask, int64_t n, bool & other) {
    uint64_t bits = 0;
#if defined(__AVX512BW__)
    if (n == TILE) {
        const __m512i hidden = _mm512_set1_epi16(static_cast<int16_t>(HIDDEN));
        const __m512i low = _mm512_loadu_si512(mask), high = _mm512_loadu_si512(mask + 32);
        const auto both = [](__mmask32 a, __mmask32 b) { return a | static_cast<uint64_t>(b) << 32; };
        bits  = both(_mm512_cmpneq_epi16_mask(low, hidden), _mm512_cmpneq_epi16_mask(high, hidden));
        other = other || (bits & both(_mm512_test_epi16_mask(low, low), _mm512_test_epi16_mask(high, high)));
        return bits;
    }
#elif defined(__AVX2__)
    if (n == TILE) {
        const __m256i hidden = _mm256_set1_epi16(static_cast<int16_t>(HIDDEN));
        uint64_t zero = 0;
        for (int i = 0; i < TILE; i += 32) {
            const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(mask + i));
            const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(mask + i + 16));
            const auto equal = [=](__m256i to) {
                const __m256i packed = _mm256_packs_epi16(_mm256_cmpeq_epi16(a, to), _mm256_cmpeq_epi16(b, to));
                return static_cast<uint32_t>(_mm256_movemask_epi8(_mm256_permute4x64_epi64(packed, 0xd8)));
            };
            bits |= static_cast<uint64_t>(~equal(hidden)) << i;
            zero |= static_cast<uint64_t>(equal(_mm256_setzero_si256())) << i;
        }
        other = other || (bits & ~zero);
        return bits;
    }
#endif
    for (int64_t i = 0; i < n; i++) {
        bits |= static_cast<uint64_t>(mask[i] != HIDDEN) << i;
        other = other || (mask[i] != HIDDEN && mask[i] != 0);
    }
    return bits;
}

// Moves the bits of `bits` that `which` selects to the lowest bits, in order.
uint64_t compress(uint64_t bits, uint64_t which) {
#if defined(__BMI2__)
    return _pext_u64(bits, which);
#else
    uint64_t out = 0;
    for (int i = 0; which; which &= which - 1, i++) {
        out |= (bits >> __builtin_ctzll(which) & 1) << i;
    }
    return out;
#endif
}

template <typename T> void grow(std::vector<T> & memory, int64_t n) {
    if (static_cast<int64_t>(memory.size()) < n) {
        memory.resize(n);
    }
}

int32_t * put(int32_t * to, int64_t word, uint64_t bits) {
    for (; bits; bits &= bits - 1) {
        *to++ = static_cast<int32_t>(word * TILE + __builtin_ctzll(bits));
    }
    return to;
}

}  // namespace

visible_cells::group visible_cells::group_at(int64_t i) const {
    const range & tokens = groups[i];
    return { tokens.first, tokens.last, shared_cells.data() + tokens.shared, tokens.n_shared, tile_bits.data() + tokens.bits };
}

visible_cells::list visible_cells::own(int64_t token) const {
    return { own_cells.data() + own_begin[token], own_begin[token + 1] - own_begin[token] };
}

bool visible_cells::holds(const attention & op) {
    const attention & old = made_for;
    const bool same = op.mask == old.mask && op.mask_token == old.mask_token && op.n_tokens == old.n_tokens &&
                      op.n_kv == old.n_kv && op.n_head == old.n_head && op.n_head_kv == old.n_head_kv &&
                      op.n_threads == old.n_threads;
    return same && op.k_is_cached && std::find(layers.begin(), layers.end(), op.k) == layers.end();
}

void visible_cells::update(const attention & op) {
    if (!holds(op)) {
        made_for = {};
        layers.clear();
        make(op);
        made_for = op;
    }
    layers.push_back(op.k);
}

// Divides the tokens into groups: several tasks for each thread, but not fewer queries than a vector has lanes.
void visible_cells::divide(const attention & op) {
    const int64_t heads = op.n_head / op.n_head_kv;
    const int64_t wanted = std::max<int64_t>(1, 4 * op.n_threads / op.n_head_kv);
    const int64_t least = std::max<int64_t>(1, QUERY_LANES / heads), most = std::max<int64_t>(1, QUERIES / heads);
    const int64_t step = std::clamp(op.n_tokens / wanted, least, most);
    groups.clear();
    for (int64_t first = 0; first < op.n_tokens; first += step) {
        groups.push_back({ first, std::min(first + step, op.n_tokens), 0, 0, 0 });
    }
}

// Whether the tokens are few and follow each other in one sequence: each sees the cells that the one before it sees, and
// the last sees at most one more for each token.
bool visible_cells::is_one_sequence(const attention & op) const {
    // With so many query heads, the cells of a single token are shared by its queries.
    const bool shared_alone = count_min(1, op.n_head / op.n_head_kv) <= 1;
    if (op.n_tokens > TOKENS_FEW || shared_alone) {
        return false;
    }
    int64_t more = 0;
    for (int64_t word = 0; word < words; word++) {
        uint64_t before = seen[word];
        for (int64_t token = 1; token < op.n_tokens; token++) {
            const uint64_t now = seen[token * words + word];
            if (before & ~now) {
                return false;
            }
            more += __builtin_popcountll(now & ~before);
            before = now;
        }
    }
    return more <= op.n_tokens;
}

void visible_cells::make(const attention & op) {
    divide(op);
    words = (op.n_kv + TILE - 1) / TILE;
    grow(seen, op.n_tokens * words);
    grow(dense, n_groups() * words);
    grow(own_begin, op.n_tokens + 1);
    bool other = false;
#pragma omp parallel num_threads(op.n_threads)
    {
#pragma omp for reduction(|| : other)
        for (int64_t token = 0; token < op.n_tokens; token++) {
            const auto * mask = reinterpret_cast<const uint16_t *>(op.mask + token * op.mask_token);
            for (int64_t word = 0; word < words; word++) {
                const int64_t at = word * TILE;
                seen[token * words + word] = visible(mask + at, std::min<int64_t>(TILE, op.n_kv - at), other);
            }
        }
#pragma omp single
        one = is_one_sequence(op);
#pragma omp for
        for (int64_t i = 0; i < n_groups(); i++) {
            count(op, i);
        }
    }
    added = other;
    int64_t n_shared = 0, n_bits = 0, n_own = 0;
    tiles_max = 0;
    for (range & group : groups) {
        int64_t longest = 0;
        group.shared = n_shared;
        group.bits   = n_bits;
        n_shared += group.n_shared;
        const int64_t tiles = (group.n_shared + TILE - 1) / TILE;
        n_bits += tiles * (group.last - group.first);
        for (int64_t token = group.first; token < group.last; token++) {
            const int64_t n = own_begin[token];
            own_begin[token] = n_own;
            n_own += n;
            longest = std::max(longest, n);
        }
        tiles_max = std::max(tiles_max, tiles + (longest + TILE - 1) / TILE);
    }
    own_begin[op.n_tokens] = n_own;
    grow(shared_cells, n_shared);
    grow(tile_bits, n_bits);
    grow(own_cells, n_own);
#pragma omp parallel for num_threads(op.n_threads)
    for (int64_t i = 0; i < n_groups(); i++) {
        fill(i);
    }
}

// Finds the shared cells of a group, and writes the number of other cells of each token to own_begin.
void visible_cells::count(const attention & op, int64_t group) {
    range & tokens = groups[group];
    const int64_t n_tokens = tokens.last - tokens.first;
    const int64_t least = one ? n_tokens + 1 : count_min(n_tokens, op.n_head / op.n_head_kv);
    std::fill(own_begin.begin() + tokens.first, own_begin.begin() + tokens.last, 0);
    tokens.n_shared = 0;
    for (int64_t word = 0; word < words; word++) {
        // How many tokens see a cell: bit i of digits[d] is digit d of the number of cell i.
        constexpr int DIGITS = 7;  // numbers up to 64
        uint64_t digits[DIGITS] = {};
        for (int64_t token = tokens.first; token < tokens.last; token++) {
            uint64_t carry = seen[token * words + word];
            for (int d = 0; carry; d++) {
                const uint64_t next = digits[d] & carry;
                digits[d] ^= carry;
                carry = next;
            }
        }
        uint64_t more = 0, equal = ~0ull;
        for (int d = DIGITS - 1; d >= 0; d--) {
            more |= least >> d & 1 ? 0 : equal & digits[d];
            equal &= least >> d & 1 ? digits[d] : ~digits[d];
        }
        const uint64_t shared = more | equal;
        dense[group * words + word] = shared;
        tokens.n_shared += __builtin_popcountll(shared);
        for (int64_t token = tokens.first; token < tokens.last; token++) {
            own_begin[token] += __builtin_popcountll(seen[token * words + word] & ~shared);
        }
    }
}

void visible_cells::fill(int64_t group) {
    const range & tokens = groups[group];
    const int64_t n = tokens.last - tokens.first;
    int32_t * to = shared_cells.data() + tokens.shared;
    uint64_t * bits = tile_bits.data() + tokens.bits;
    std::fill_n(bits, (tokens.n_shared + TILE - 1) / TILE * n, 0);
    int64_t at = 0;
    for (int64_t word = 0; word < words; word++) {
        const uint64_t shared = dense[group * words + word];
        if (!shared) {
            continue;
        }
        const int64_t count = __builtin_popcountll(shared), begin = at % TILE;
        for (int64_t i = 0; i < n; i++) {
            const uint64_t those = compress(seen[(tokens.first + i) * words + word], shared);
            bits[at / TILE * n + i] |= those << begin;
            if (begin + count > TILE) {
                bits[(at / TILE + 1) * n + i] |= those >> (TILE - begin);
            }
        }
        to = put(to, word, shared);
        at += count;
    }
    for (int64_t token = tokens.first; token < tokens.last; token++) {
        int32_t * own = own_cells.data() + own_begin[token];
        for (int64_t word = 0; word < words; word++) {
            own = put(own, word, seen[token * words + word] & ~dense[group * words + word]);
        }
    }
}

}  // namespace tulu
