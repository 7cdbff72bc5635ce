//! q8_0, q5_0, q4_0, q5_1 and q4_1 without an imatrix: blocks of 32 weights, no search, one block after another.
//!
//! | bytes | q8_0 | q4_0 | q5_0 | q4_1 | q5_1 |
//! |---|---|---|---|---|---|
//! | scale, f16 | 0..2 | 0..2 | 0..2 | 0..2 | 0..2 |
//! | minimum, f16 | | | | 2..4 | 2..4 |
//! | fifth bits | | | 2..6 | | 4..8 |
//! | levels: weight i low, weight 16 + i high | 2..34 | 2..18 | 6..22 | 4..20 | 8..24 |

use super::lanes::{Lanes, half};
use fearless_simd::prelude::*;
use fearless_simd::{Simd, i32x16};

/// Weights in a block.
pub(super) const BLOCK: usize = 32;

/// The largest float below 0.5. Adding it before truncation rounds to nearest, with halves away from zero.
const BELOW_HALF: f32 = 0.499_999_97;

/// The two halves of a block.
type Block<S> = [Lanes<S>; 2];

/// q8_0 of whole blocks.
#[inline(always)]
pub(super) fn q8_0<S: Simd>(simd: S, src: &[f32], dst: &mut [u8]) {
    for_each_block(simd, src, dst, |x: Block<S>, block: &mut [u8; 34]| {
        let size = x[0].abs().max(x[1].abs()).reduce_max();
        let d = size / 127.0;
        block[..2].copy_from_slice(&half(d).0);
        let inverse = inverse(d);
        for (x, out) in x.into_iter().zip(block[2..].chunks_exact_mut(16)) {
            let v = x * inverse;
            let whole: i32x16<S> = (v + Lanes::splat(simd, BELOW_HALF).copysign(v)).to_int();
            for (out, whole) in out.iter_mut().zip(whole.to_array()) {
                *out = whole as u8;
            }
        }
    });
}

/// q4_0 of whole blocks.
#[inline(always)]
pub(super) fn q4_0<S: Simd>(simd: S, src: &[f32], dst: &mut [u8]) {
    for_each_block(simd, src, dst, |x, block: &mut [u8; 18]| {
        let (d, levels) = symmetric(simd, x, 8);
        block[..2].copy_from_slice(&d);
        levels.pack(&mut block[2..]);
    });
}

/// q5_0 of whole blocks.
#[inline(always)]
pub(super) fn q5_0<S: Simd>(simd: S, src: &[f32], dst: &mut [u8]) {
    for_each_block(simd, src, dst, |x, block: &mut [u8; 22]| {
        let (d, levels) = symmetric(simd, x, 16);
        block[..2].copy_from_slice(&d);
        block[2..6].copy_from_slice(&levels.fifth.to_le_bytes());
        levels.pack(&mut block[6..]);
    });
}

/// q4_1 of whole blocks.
#[inline(always)]
pub(super) fn q4_1<S: Simd>(simd: S, src: &[f32], dst: &mut [u8]) {
    for_each_block(simd, src, dst, |x, block: &mut [u8; 20]| {
        let (d, min, levels) = from_minimum(simd, x, 15);
        block[..2].copy_from_slice(&d);
        block[2..4].copy_from_slice(&min);
        levels.pack(&mut block[4..]);
    });
}

/// q5_1 of whole blocks.
#[inline(always)]
pub(super) fn q5_1<S: Simd>(simd: S, src: &[f32], dst: &mut [u8]) {
    for_each_block(simd, src, dst, |x, block: &mut [u8; 24]| {
        let (d, min, levels) = from_minimum(simd, x, 31);
        block[..2].copy_from_slice(&d);
        block[2..4].copy_from_slice(&min);
        block[4..8].copy_from_slice(&levels.fifth.to_le_bytes());
        levels.pack(&mut block[8..]);
    });
}

#[inline(always)]
fn for_each_block<S: Simd, const BYTES: usize>(
    simd: S,
    src: &[f32],
    dst: &mut [u8],
    one: impl Fn(Block<S>, &mut [u8; BYTES]),
) {
    simd.vectorize(
        #[inline(always)]
        || {
            for (x, block) in src.as_chunks::<BLOCK>().0.iter().zip(dst.as_chunks_mut::<BYTES>().0) {
                one([Lanes::from_slice(simd, &x[..16]), Lanes::from_slice(simd, &x[16..])], block);
            }
        },
    );
}

/// The levels of a block and their fifth bits.
pub(super) struct Levels {
    levels: [[u8; 16]; 2],
    pub(super) fifth: u32,
}

impl Levels {
    /// Collects one level for each weight.
    #[inline(always)]
    pub(super) fn of(levels: &[u8; BLOCK]) -> Self {
        let mut all = Self { levels: [[0; 16]; 2], fifth: 0 };
        for (i, level) in levels.iter().enumerate() {
            all.levels[i / 16][i % 16] = *level;
            all.fifth |= u32::from(level >> 4 & 1) << i;
        }
        all
    }

    /// Writes the low four bits, two levels per byte.
    #[inline(always)]
    pub(super) fn pack(&self, low: &mut [u8]) {
        for ((low, first), second) in low.iter_mut().zip(self.levels[0]).zip(self.levels[1]) {
            *low = (first & 15) | (second & 15) << 4;
        }
    }
}

/// Quantizes to levels around zero (stored as `top` + level): the first weight of the largest magnitude gets the lowest
/// level.
#[inline(always)]
fn symmetric<S: Simd>(simd: S, x: Block<S>, top: i8) -> ([u8; 2], Levels) {
    let size = x[0].abs().max(x[1].abs()).reduce_max();
    let max = if size > 0.0 { first([x[0].abs(), x[1].abs()], size, x) } else { 0.0 };
    let d = max / f32::from(-top);
    let centre = f32::from(top) + 0.5;
    (half(d).0, levels(simd, d, i32::from(2 * top - 1), |inverse, half| x[half] * inverse + centre))
}

/// Quantizes to levels above the minimum.
#[inline(always)]
fn from_minimum<S: Simd>(simd: S, x: Block<S>, top: i32) -> ([u8; 2], [u8; 2], Levels) {
    // if several weights equal the minimum (0 and -0), the first decides the sign of a stored zero
    let min = first(x, x[0].min(x[1]).reduce_min(), x);
    let max = x[0].max(x[1]).reduce_max();
    // a stored scale of zero is always +0
    let d = if max > min { (max - min) / top as f32 } else { 0.0 };
    (half(d).0, half(min).0, levels(simd, d, top, |inverse, half| (x[half] - min) * inverse + 0.5))
}

/// Returns the element of `x` at the first position where `at` equals `value`.
#[inline(always)]
fn first<S: Simd>(at: Block<S>, value: f32, x: Block<S>) -> f32 {
    let [low, high] = at.map(|at| at.simd_eq(value).to_bitmask());
    let place = (low | high << 16).trailing_zeros() as usize;
    x[place / 16 % 2][place % 16]
}

/// Returns the inverse of a scale. Returns zero if the scale is zero or its inverse is infinite, because ggml's levels
/// are zero then.
#[inline(always)]
fn inverse(d: f32) -> f32 {
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    if inverse.is_infinite() { 0.0 } else { inverse }
}

/// Returns the integer parts of the values, at most `top`.
#[inline(always)]
fn levels<S: Simd>(simd: S, d: f32, top: i32, value: impl Fn(Lanes<S>, usize) -> Lanes<S>) -> Levels {
    let mut all = Levels { levels: [[0; 16]; 2], fifth: 0 };
    // infinities and NaN become the integer -2³¹ in ggml, whose lowest byte, the level, is zero
    if d == 0.0 || (1.0 / d).is_finite() {
        let inverse = Lanes::splat(simd, inverse(d));
        for (half, out) in all.levels.iter_mut().enumerate() {
            let whole: i32x16<S> = value(inverse, half).to_int();
            all.fifth |= (whole.simd_gt(15).to_bitmask() as u32) << (16 * half);
            for (out, whole) in out.iter_mut().zip(whole.min(top).to_array()) {
                *out = whole as u8;
            }
        }
    }
    all
}
