// 128-bit vectors of ARM: four rows in a vector.
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tulu {
namespace {

struct neon {
    static constexpr int LANES = 4, TILE = 12;
    using ints   = int32_t __attribute__((vector_size(16), may_alias));
    using floats = float __attribute__((vector_size(16), may_alias));

    static ints lookup(const uint8_t * table, ints nibbles) { return (ints) vqtbl1q_u8(vld1q_u8(table), (uint8x16_t) nibbles); }

    // Converts the low 16 bits of each number from half float.
    static floats from_halves(ints x) { return (floats) vcvt_f32_f16((float16x4_t) vmovn_s32((int32x4_t) x)); }

    // Loads four bytes from each of 4 addresses, `step` bytes apart.
    static ints gather(const char * from, size_t step) {
        int32_t numbers[LANES];
        for (int i = 0; i < LANES; i++) {
            std::memcpy(numbers + i, from + i * step, sizeof numbers[i]);
        }
        return (ints) vld1q_s32(numbers);
    }

    // Loads 16 bytes: the vector is one 128-bit lane.
    static ints four_rows_apart(const char * from, size_t) {
        return (ints) vld1q_u8(reinterpret_cast<const uint8_t *>(from));
    }

    static void transpose_in_lanes(const ints * rows, ints * to) {
        const auto wide = [](int32x4_t x) { return vreinterpretq_s64_s32(x); };
        const int32x4x2_t ab = vtrnq_s32((int32x4_t) rows[0], (int32x4_t) rows[1]);
        const int32x4x2_t cd = vtrnq_s32((int32x4_t) rows[2], (int32x4_t) rows[3]);
        to[0] = (ints) vtrn1q_s64(wide(ab.val[0]), wide(cd.val[0]));
        to[1] = (ints) vtrn1q_s64(wide(ab.val[1]), wide(cd.val[1]));
        to[2] = (ints) vtrn2q_s64(wide(ab.val[0]), wide(cd.val[0]));
        to[3] = (ints) vtrn2q_s64(wide(ab.val[1]), wide(cd.val[1]));
    }
};

}  // namespace
}  // namespace tulu
