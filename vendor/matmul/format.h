// How the kernels hold weights and columns: both cut along the depth into chunks of 256, each chunk into groups of 16 or 32
// ("sub-blocks") that have a scale of their own.
//
//   panel   256 weights of each of LANES rows as bytes, four consecutive weights of a row beside one another, so that one
//           instruction multiplies them with four bytes of a column for all rows at once
//   column  256 numbers of a column as signed bytes with one scale for a unit of 16 or 32 of them. (ggml has one for 256
//           where the weights are K-quants, else one for 32; that is why the error here is smaller.)
//
// A weight is scale * (byte - offset), where a type has one offset for all, or scale * byte - min.
#pragma once

#include <cstdint>

namespace tulu {

constexpr int CHUNK = 256;
constexpr int SUBS_MAX = CHUNK / 16;
constexpr int UNITS_MAX = CHUNK / 16;

template <int LANES> struct alignas(64) panel {
    uint8_t bytes[CHUNK / 4][LANES][4];
    // One for each sub-block; those of 32 weights have their minima from number 8 on, those of 16 from number 16 on.
    float scales[2 * SUBS_MAX][LANES];
};

struct alignas(64) column {
    int8_t bytes[CHUNK];
    float scale[UNITS_MAX];
    // The sum of a unit's bytes times -offset, or times the scale.
    union {
        int32_t start[UNITS_MAX];
        float total[UNITS_MAX];
    };
};

}  // namespace tulu
