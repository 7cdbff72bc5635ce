// Unpacks the weights of each type to bytes with scales. Only this file depends on ggml's layout of a type:
// ggml-common.h defines the blocks, and dequantize_row_* in ggml-quants.c defines their meaning.
//
// The packed bytes of LANES rows are interleaved first, so that a vector holds four packed bytes of each row, and bits
// are masked and shifted for all rows at once. A vector of the result, a group, holds four consecutive weights of each
// row.
#pragma once

#include "format.h"

#define GGML_COMMON_DECL_C
#include "ggml-common.h"
#include "ggml.h"

#include <cstring>

namespace tulu {
namespace {

using ints   = isa::ints;
using floats = isa::floats;

// Repeats a byte in all bytes of a vector.
constexpr int32_t bytes_of(int byte) { return static_cast<int32_t>(0x01010101u * static_cast<uint32_t>(byte)); }

inline ints low_nibbles(ints x) { return x & bytes_of(15); }
inline ints high_nibbles(ints x) { return (x >> 4) & bytes_of(15); }

// The same block in LANES rows, which are `step` bytes apart.
template <typename block> struct rows_of {
    const char * first;
    size_t step;

    const block & operator[](int row) const { return *reinterpret_cast<const block *>(first + row * step); }
};

// Loads 16 bytes of each row, at `from` in the first row, to four vectors with four bytes of each row.
inline void interleave(const void * from, size_t step, ints * to) {
    ints rows[4];
    for (int i = 0; i < 4; i++) {
        rows[i] = isa::four_rows_apart(static_cast<const char *>(from) + i * step, 4 * step);
    }
    isa::transpose_in_lanes(rows, to);
}

// Loads four bytes of each row, at `offset` in the block.
template <typename block> ints gather(const rows_of<block> & rows, size_t offset) {
    return isa::gather(rows.first + offset, rows.step);
}

// Loads the half float at `offset` in the block of each row. Reads four bytes, all inside the block.
template <typename block> floats gather_halves(const rows_of<block> & rows, size_t offset) {
    const bool at_end = offset + 4 > sizeof(block);
    const ints four   = gather(rows, at_end ? offset - 2 : offset);
    return isa::from_halves(at_end ? four >> 16 : four);
}

inline floats to_floats(ints x) { return __builtin_convertvector(x, floats); }

inline ints byte(ints x, int number) { return (x >> (8 * number)) & 255; }
inline ints signed_byte(ints x, int number) { return (x << (24 - 8 * number)) >> 24; }

// Each type has:
//   block    ggml's struct; it has WEIGHTS weights, and one scale for SUB of them
//   UNIT     values of a column with one scale: 16 if ggml has one for 32, or if the weights have one for 16
//   LARGEST  the largest byte
//   MINS     true: a weight is scale * byte - min; false: scale * (byte - OFFSET)
//   PACKED   packed bytes in one block, a multiple of 16; packed() points to them
//   expand   converts interleaved packed bytes of one block (PACKED / 4 vectors) to groups (WEIGHTS / 4 vectors)
//   scales   writes the WEIGHTS / SUB scales of one block, and its minima

// q4_K and q5_K have the same beginning: two half floats, then eight scales and eight minima of 6 bits each in 12
// bytes.
template <typename block> void scales_of_6_bits(const rows_of<block> & rows, floats * scale, floats * min) {
    ints w[4], bits[4];
    interleave(rows.first, rows.step, w);
    bits[0] = w[1] & bytes_of(63);
    bits[1] = (w[3] & bytes_of(15)) | (w[1] >> 2 & bytes_of(48));
    bits[2] = w[2] & bytes_of(63);
    bits[3] = (w[3] >> 4 & bytes_of(15)) | (w[2] >> 2 & bytes_of(48));
    const floats d = isa::from_halves(w[0]), dmin = isa::from_halves(w[0] >> 16);
    for (int j = 0; j < 8; j++) {
        scale[j] = d * to_floats(byte(bits[j / 4], j % 4));
        min[j]   = dmin * to_floats(byte(bits[2 + j / 4], j % 4));
    }
}
static_assert(offsetof(block_q4_K, scales) == 4 && offsetof(block_q5_K, scales) == 4, "two halves before the scales");

struct q4_K {
    using block = block_q4_K;
    static constexpr int WEIGHTS = 256, SUB = 32, UNIT = 32, OFFSET = 0, PACKED = 128, LARGEST = 15;
    static constexpr bool MINS = true;
    static const uint8_t * packed(const block & from) { return from.qs; }
    static void expand(const ints * p, const rows_of<block> &, ints * groups) {
        for (int c = 0; c < 4; c++) {
            for (int i = 0; i < 8; i++) {
                groups[16 * c + i]     = low_nibbles(p[8 * c + i]);
                groups[16 * c + 8 + i] = high_nibbles(p[8 * c + i]);
            }
        }
    }
    static void scales(const rows_of<block> & rows, floats * scale, floats * min) { scales_of_6_bits(rows, scale, min); }
};

struct q5_K {
    using block = block_q5_K;
    static constexpr int WEIGHTS = 256, SUB = 32, UNIT = 32, OFFSET = 0, PACKED = 160, LARGEST = 31;
    static constexpr bool MINS = true;
    static const uint8_t * packed(const block & from) { return from.qh; }  // 32 bytes of fifth bits, then the nibbles
    static void expand(const ints * p, const rows_of<block> &, ints * groups) {
        for (int c = 0; c < 4; c++) {
            for (int i = 0; i < 8; i++) {
                const ints low = p[8 + 8 * c + i], high = p[i];
                groups[16 * c + i]     = low_nibbles(low) | ((high >> (2 * c)) & bytes_of(1)) << 4;
                groups[16 * c + 8 + i] = high_nibbles(low) | ((high >> (2 * c + 1)) & bytes_of(1)) << 4;
            }
        }
    }
    static void scales(const rows_of<block> & rows, floats * scale, floats * min) { scales_of_6_bits(rows, scale, min); }
};
static_assert(offsetof(block_q5_K, qs) == offsetof(block_q5_K, qh) + 32, "packed() covers both");

struct q6_K {
    using block = block_q6_K;
    static constexpr int WEIGHTS = 256, SUB = 16, UNIT = 16, OFFSET = 32, PACKED = 192, LARGEST = 63;
    static constexpr bool MINS = false;
    static const uint8_t * packed(const block & from) { return from.ql; }  // 128 bytes of nibbles, 64 of upper bits
    static void expand(const ints * p, const rows_of<block> &, ints * groups) {
        for (int half = 0; half < 2; half++) {
            for (int i = 0; i < 8; i++) {
                const ints a = p[16 * half + i], b = p[16 * half + 8 + i], high = p[32 + 8 * half + i];
                ints * to = groups + 32 * half + i;
                to[0]  = low_nibbles(a) | (high & bytes_of(3)) << 4;
                to[8]  = low_nibbles(b) | (high << 2 & bytes_of(0x30));
                to[16] = high_nibbles(a) | (high & bytes_of(0x30));
                to[24] = high_nibbles(b) | (high >> 2 & bytes_of(0x30));
            }
        }
    }
    static void scales(const rows_of<block> & rows, floats * scale, floats *) {
        ints bytes[4];
        interleave(rows[0].scales, rows.step, bytes);
        const floats d = gather_halves(rows, offsetof(block, d));
        for (int j = 0; j < 16; j++) {
            scale[j] = d * to_floats(signed_byte(bytes[j / 4], j % 4));
        }
    }
};
static_assert(offsetof(block_q6_K, qh) == offsetof(block_q6_K, ql) + 128, "packed() covers both");

struct q3_K {
    using block = block_q3_K;
    static constexpr int WEIGHTS = 256, SUB = 16, UNIT = 16, OFFSET = 4, PACKED = 96, LARGEST = 7;
    static constexpr bool MINS = false;
    static const uint8_t * packed(const block & from) { return from.hmask; }  // 32 bytes of third bits, 64 of 2 bits
    static void expand(const ints * p, const rows_of<block> &, ints * groups) {
        for (int half = 0; half < 2; half++) {
            for (int j = 0; j < 4; j++) {
                for (int i = 0; i < 8; i++) {
                    groups[32 * half + 8 * j + i] = ((p[8 + 8 * half + i] >> (2 * j)) & bytes_of(3)) |
                                                    ((p[i] >> (4 * half + j)) & bytes_of(1)) << 2;
                }
            }
        }
    }
    static void scales(const rows_of<block> & rows, floats * scale, floats *) {
        ints w[3], bits[4];
        for (int i = 0; i < 3; i++) {
            w[i] = gather(rows, offsetof(block, scales) + 4 * i);
        }
        for (int i = 0; i < 4; i++) {
            bits[i] = (w[i % 2] >> (i < 2 ? 0 : 4) & bytes_of(15)) | (w[2] >> (2 * i) & bytes_of(3)) << 4;
        }
        const floats d = gather_halves(rows, offsetof(block, d));
        for (int j = 0; j < 16; j++) {
            scale[j] = d * to_floats(byte(bits[j / 4], j % 4) - 32);
        }
    }
};
static_assert(offsetof(block_q3_K, qs) == offsetof(block_q3_K, hmask) + 32, "packed() covers both");

struct q2_K {
    using block = block_q2_K;
    static constexpr int WEIGHTS = 256, SUB = 16, UNIT = 16, OFFSET = 0, PACKED = 64, LARGEST = 3;
    static constexpr bool MINS = true;
    static const uint8_t * packed(const block & from) { return from.qs; }
    static void expand(const ints * p, const rows_of<block> &, ints * groups) {
        for (int half = 0; half < 2; half++) {
            for (int j = 0; j < 4; j++) {
                for (int i = 0; i < 8; i++) {
                    groups[32 * half + 8 * j + i] = (p[8 * half + i] >> (2 * j)) & bytes_of(3);
                }
            }
        }
    }
    static void scales(const rows_of<block> & rows, floats * scale, floats * min) {
        ints bytes[4];
        interleave(rows[0].scales, rows.step, bytes);
        const floats d = gather_halves(rows, offsetof(block, d));
        const floats dmin = gather_halves(rows, offsetof(block, dmin));
        for (int j = 0; j < 16; j++) {
            scale[j] = d * to_floats(byte(bytes[j / 4], j % 4) & 15);
            min[j]   = dmin * to_floats(byte(bytes[j / 4], j % 4) >> 4);
        }
    }
};

// Loads the scale of a block with one scale.
template <typename block> floats one_scale(const rows_of<block> & rows) {
    return gather_halves(rows, offsetof(block, d));
}

struct q8_0 {
    using block = block_q8_0;
    static constexpr int WEIGHTS = 32, SUB = 32, UNIT = 16, OFFSET = 128, PACKED = 32, LARGEST = 255;
    static constexpr bool MINS = false;
    static const uint8_t * packed(const block & from) { return reinterpret_cast<const uint8_t *>(from.qs); }
    static void expand(const ints * p, const rows_of<block> &, ints * groups) {
        for (int i = 0; i < 8; i++) {
            groups[i] = p[i] ^ bytes_of(128);
        }
    }
    static void scales(const rows_of<block> & rows, floats * scale, floats *) { scale[0] = one_scale(rows); }
};

// Expands 16 bytes: the low nibbles are weights 0 to 15, the high nibbles are weights 16 to 31.
inline void nibbles_of_32(const ints * p, ints * groups) {
    for (int i = 0; i < 4; i++) {
        groups[i]     = low_nibbles(p[i]);
        groups[4 + i] = high_nibbles(p[i]);
    }
}

// Adds the fifth bits of q5_0 and q5_1: bit i of 32 belongs to weight i.
template <typename block> void add_fifth_bits(const rows_of<block> & rows, ints * groups) {
    const ints bits = gather(rows, offsetof(block, qh));
    for (int i = 0; i < 8; i++) {
        // spread four bits to the lowest bits of four bytes
        groups[i] |= (((bits >> (4 * i)) & 15) * 0x00204081 & bytes_of(1)) << 4;
    }
}

struct q4_0 {
    using block = block_q4_0;
    static constexpr int WEIGHTS = 32, SUB = 32, UNIT = 16, OFFSET = 8, PACKED = 16, LARGEST = 15;
    static constexpr bool MINS = false;
    static const uint8_t * packed(const block & from) { return from.qs; }
    static void expand(const ints * p, const rows_of<block> &, ints * groups) { nibbles_of_32(p, groups); }
    static void scales(const rows_of<block> & rows, floats * scale, floats *) { scale[0] = one_scale(rows); }
};

struct q5_0 {
    using block = block_q5_0;
    static constexpr int WEIGHTS = 32, SUB = 32, UNIT = 16, OFFSET = 16, PACKED = 16, LARGEST = 31;
    static constexpr bool MINS = false;
    static const uint8_t * packed(const block & from) { return from.qs; }
    static void expand(const ints * p, const rows_of<block> & rows, ints * groups) {
        nibbles_of_32(p, groups);
        add_fifth_bits(rows, groups);
    }
    static void scales(const rows_of<block> & rows, floats * scale, floats *) { scale[0] = one_scale(rows); }
};

struct q4_1 {
    using block = block_q4_1;
    static constexpr int WEIGHTS = 32, SUB = 32, UNIT = 16, OFFSET = 0, PACKED = 16, LARGEST = 15;
    static constexpr bool MINS = true;
    static const uint8_t * packed(const block & from) { return from.qs; }
    static void expand(const ints * p, const rows_of<block> &, ints * groups) { nibbles_of_32(p, groups); }
    static void scales(const rows_of<block> & rows, floats * scale, floats * min) {
        scale[0] = one_scale(rows);
        min[0]   = -gather_halves(rows, offsetof(block, m));
    }
};

struct q5_1 {
    using block = block_q5_1;
    static constexpr int WEIGHTS = 32, SUB = 32, UNIT = 16, OFFSET = 0, PACKED = 16, LARGEST = 31;
    static constexpr bool MINS = true;
    static const uint8_t * packed(const block & from) { return from.qs; }
    static void expand(const ints * p, const rows_of<block> & rows, ints * groups) {
        nibbles_of_32(p, groups);
        add_fifth_bits(rows, groups);
    }
    static void scales(const rows_of<block> & rows, floats * scale, floats * min) {
        scale[0] = one_scale(rows);
        min[0]   = -gather_halves(rows, offsetof(block, m));
    }
};

// The codebook of IQ4_NL and IQ4_XS (kvalues_iq4nl in ggml-common.h) plus 128.
constexpr uint8_t IQ4_VALUES[16] = { 1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241 };

struct iq4_nl {
    using block = block_iq4_nl;
    static constexpr int WEIGHTS = 32, SUB = 32, UNIT = 16, OFFSET = 128, PACKED = 16, LARGEST = 241;
    static constexpr bool MINS = false;
    static const uint8_t * packed(const block & from) { return from.qs; }
    static void expand(const ints * p, const rows_of<block> &, ints * groups) {
        nibbles_of_32(p, groups);
        for (int i = 0; i < 8; i++) {
            groups[i] = isa::lookup(IQ4_VALUES, groups[i]);
        }
    }
    static void scales(const rows_of<block> & rows, floats * scale, floats *) { scale[0] = one_scale(rows); }
};

struct iq4_xs {
    using block = block_iq4_xs;
    static constexpr int WEIGHTS = 256, SUB = 32, UNIT = 32, OFFSET = 128, PACKED = 128, LARGEST = 241;
    static constexpr bool MINS = false;
    static const uint8_t * packed(const block & from) { return from.qs; }
    static void expand(const ints * p, const rows_of<block> &, ints * groups) {
        for (int j = 0; j < 8; j++) {
            nibbles_of_32(p + 4 * j, groups + 8 * j);
        }
        for (int i = 0; i < 64; i++) {
            groups[i] = isa::lookup(IQ4_VALUES, groups[i]);
        }
    }
    static void scales(const rows_of<block> & rows, floats * scale, floats *) {
        const ints low    = gather(rows, offsetof(block, scales_l));
        const ints high   = gather(rows, offsetof(block, scales_h));
        const floats d = gather_halves(rows, offsetof(block, d));
        for (int j = 0; j < 8; j++) {
            scale[j] = d * to_floats(((low >> (4 * j) & 15) | (high >> (2 * j) & 3) << 4) - 32);
        }
    }
};

}  // namespace
}  // namespace tulu
