// The cells that tokens see, from the attention mask. Made once for all heads and all layers of a step.
//
// The tokens are divided into groups, one for each task. A cell that most tokens of a group see is shared: the task
// multiplies it with all queries of the group at once. Every other cell is in the lists of the tokens that see it. The
// lists have no gaps, so the results do not depend on where in the pool the cells are, only on their order.
//
// If the step computes a few tokens of one sequence, no cell is shared. Then the result of a token does not depend on how
// many tokens are computed with it: an answer is the same with and without guessed tokens.
#pragma once

#include "attention.h"

#include <vector>

namespace tulu {

constexpr int TILE = 64;  // cells in a tile: one bit each in a 64-bit word

class visible_cells {
  public:
    struct group {
        int64_t first, last;  // tokens
        const int32_t * shared;  // the shared cells, in order
        int64_t n_shared;
        // Bit i of word [tile][token - first]: whether the token sees cell number i of this tile of shared cells.
        const uint64_t * bits;

        int64_t n_tokens() const { return last - first; }
        int64_t n_tiles() const { return (n_shared + TILE - 1) / TILE; }
    };

    struct list {
        const int32_t * cells;
        int64_t n;
    };

    // Makes the lists, unless those of the preceding call are for another layer of the same step. llama.cpp computes
    // the layers in order, so a new step begins with keys that the current step has already read.
    void update(const attention & op);

    int64_t n_groups() const { return static_cast<int64_t>(groups.size()); }
    group group_at(int64_t i) const;
    // The other cells that the token sees.
    list own(int64_t token) const;
    // Whether the mask has other values than 0 and minus infinity.
    bool has_values() const { return added; }
    // Tiles of the longest group: of its shared cells, and of the longest list of its tokens.
    int64_t n_tiles_max() const { return tiles_max; }
    // Whether these are a few tokens of one sequence.
    bool one_sequence() const { return one; }

  private:
    struct range {
        int64_t first, last, shared, n_shared, bits;  // tokens; places in the vectors
    };

    attention made_for = {};
    std::vector<const char *> layers;  // the keys of the layers of this step so far
    std::vector<range> groups;
    std::vector<uint64_t> seen;  // [token][word]: one bit for each cell
    std::vector<uint64_t> dense;  // [group][word]: the shared cells
    std::vector<int32_t> shared_cells, own_cells;
    std::vector<uint64_t> tile_bits;
    std::vector<int64_t> own_begin;  // [token + 1]
    int64_t words = 0, tiles_max = 0;
    bool added = false, one = false;

    bool holds(const attention & op);
    void make(const attention & op);
    void divide(const attention & op);
    bool is_one_sequence(const attention & op) const;
    void count(const attention & op, int64_t group);
    void fill(int64_t group);
};

}  // namespace tulu
