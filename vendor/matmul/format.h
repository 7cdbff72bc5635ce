// The kernels' formats of weights and columns. Both are divided along the depth into chunks of 256 values.
//
//   panel   256 weights of each of LANES rows as bytes. Four consecutive weights of a row are adjacent, so that one
//           instruction multiplies them with four bytes of a column for all rows at once. A sub-block of 16 or 32
//           weights has a scale.
//   column  256 values of a column as signed bytes. A unit of 16 or 32 values has a scale. (ggml has one scale for 256
//           values if the weights are K-quants, else for 32, so the error here is smaller.)
//
// A weight is scale * (byte - offset), with one offset for the whole type, or scale * byte - min.
#pragma once

#include <cstdint>

namespace tulu {

constexpr int CHUNK = 256;
constexpr int SUBS_MAX = CHUNK / 16;
constexpr int UNITS_MAX = CHUNK / 16;

template <int LANES> struct alignas(64) panel {
    uint8_t bytes[CHUNK / 4][LANES][4];
    // One scale per sub-block, then one minimum per sub-block: from index 8 (sub-blocks of 32) or 16 (of 16).
    float scales[2 * SUBS_MAX][LANES];
};

struct alignas(64) column {
    int8_t bytes[CHUNK];
    float scale[UNITS_MAX];
    // The sum of the bytes of a unit times -offset (`start`), or times the scale (`total`).
    union {
        int32_t start[UNITS_MAX];
        float total[UNITS_MAX];
    };
};

}  // namespace tulu
