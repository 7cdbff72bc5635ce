//! iq4_nl and iq4_xs: four-bit levels on a fixed non-uniform grid, in sub-blocks of 32 weights. iq4_nl stores a
//! half-precision scale for each; iq4_xs has super-blocks of eight with 6-bit scales.
//!
//! | bytes | iq4_nl | iq4_xs |
//! |---|---|---|
//! | scale, or factor of the scales, f16 | 0..2 | 0..2 |
//! | high two bits of the scales | | 2..4 |
//! | low four bits of the scales | | 4..8 |
//! | levels: weight i low, weight 16 + i high | 2..18 | 8..136 |

use super::lanes::{Group, Lanes, groups, half, largest, nearest_int, transposed};
use super::superblock_scales::GROUP_MAX_EPS;
use fearless_simd::Simd;
use fearless_simd::prelude::*;

const SUB_BLOCK: usize = 32;

/// The values of the sixteen levels.
const GRID: [f32; 16] =
    [-127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0];

/// Boundaries between the levels: the midpoints, which belong to the upper level. ggml compares the distances to both
/// levels; near a midpoint they are exact in f32, so the result is the same. NaN gets the last level.
const MIDDLE: [f32; 15] = {
    let mut middle = [0.0; 15];
    let mut i = 0;
    while i < 15 {
        middle[i] = (GRID[i] + GRID[i + 1]) / 2.0;
        i += 1;
    }
    middle
};

/// iq4_nl of whole blocks.
#[inline(always)]
pub(super) fn iq4_nl<S: Simd>(simd: S, src: &[f32], importance: Option<&[f32]>, dst: &mut [u8]) {
    groups(src, importance, dst, |group, blocks: &mut [[u8; 18]]| {
        simd.vectorize(
            #[inline(always)]
            || {
                let [scale] = scales::<S, 32, 1>(simd, group);
                for (lane, block) in blocks.iter_mut().enumerate() {
                    let scale = scale[lane];
                    block[..2].copy_from_slice(&half(scale).0);
                    levels(simd, group.weights[lane], inverse(scale), &mut block[2..]);
                }
            },
        );
    });
}

/// iq4_xs of whole super-blocks.
#[inline(always)]
pub(super) fn iq4_xs<S: Simd>(simd: S, src: &[f32], importance: Option<&[f32]>, dst: &mut [u8]) {
    groups(src, importance, dst, |group, blocks: &mut [[u8; 136]]| {
        simd.vectorize(
            #[inline(always)]
            || {
                let scales = scales::<S, 256, 8>(simd, group);
                for (lane, block) in blocks.iter_mut().enumerate() {
                    store(simd, group.weights[lane], block, &scales, lane);
                }
            },
        );
    });
}

/// Returns the best scale of each of the `SUB_BLOCKS` sub-blocks in blocks of `N` weights.
#[inline(always)]
fn scales<S: Simd, const N: usize, const SUB_BLOCKS: usize>(simd: S, group: &Group<'_, N>) -> [Lanes<S>; SUB_BLOCKS] {
    let zero = Lanes::splat(simd, 0.0);
    let mut variance = zero;
    if group.importance.is_some() {
        for number in 0..SUB_BLOCKS {
            for x in transposed::<S, SUB_BLOCK, N>(simd, &group.weights, number * SUB_BLOCK) {
                variance += x * x;
            }
        }
        variance *= 2.0 / N as f32;
    }
    let mut scales = [zero; SUB_BLOCKS];
    for (number, scale) in scales.iter_mut().enumerate() {
        let x = transposed::<S, SUB_BLOCK, N>(simd, &group.weights, number * SUB_BLOCK);
        let mut w = x;
        if let Some(importance) = &group.importance {
            w = transposed::<S, SUB_BLOCK, N>(simd, importance, number * SUB_BLOCK);
            for (w, &x) in w.iter_mut().zip(&x) {
                *w *= (variance + x * x).sqrt();
            }
        } else {
            for w in &mut w {
                *w *= *w;
            }
        }
        *scale = search(simd, &x, &w);
    }
    scales
}

/// Returns the scale with the least weighted error among sixteen candidates.
#[inline(always)]
fn search<S: Simd>(simd: S, x: &[Lanes<S>; SUB_BLOCK], w: &[Lanes<S>; SUB_BLOCK]) -> Lanes<S> {
    let zero = Lanes::splat(simd, 0.0);
    let (size, max) = largest(simd, x);
    let (qx, q2) = sums(x, w, 1.0 / (-max / GRID[0]));
    let mut scale = q2.simd_gt(zero).select(qx / q2, zero);
    let mut best = scale * qx;
    for step in -7i8..=7 {
        let (qx, q2) = sums(x, w, (f32::from(step) + GRID[0]) / max);
        let better = q2.simd_gt(zero) & (qx * qx).simd_gt(best * q2);
        scale = better.select(qx / q2, scale);
        best = better.select(scale * qx, best);
    }
    size.simd_lt(GROUP_MAX_EPS).select(zero, scale)
}

/// Returns the two sums of the least-squares fit.
#[inline(always)]
fn sums<S: Simd>(x: &[Lanes<S>; SUB_BLOCK], w: &[Lanes<S>; SUB_BLOCK], inverse: Lanes<S>) -> (Lanes<S>, Lanes<S>) {
    let simd = inverse.simd;
    let (mut qx, mut q2) = (Lanes::splat(simd, 0.0), Lanes::splat(simd, 0.0));
    for i in 0..SUB_BLOCK {
        let scaled = inverse * x[i];
        let mut q = Lanes::splat(simd, GRID[0]);
        for (middle, value) in MIDDLE.into_iter().zip(GRID.into_iter().skip(1)) {
            q = scaled.simd_lt(middle).select(q, Lanes::splat(simd, value));
        }
        let wq = w[i] * q;
        qx += wq * x[i];
        q2 += wq * q;
    }
    (qx, q2)
}

#[inline(always)]
fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

/// Writes the levels of 32 weights, two per byte.
#[inline(always)]
fn levels<S: Simd>(simd: S, x: &[f32], inverse: f32, out: &mut [u8]) {
    let [low, high] = [&x[..16], &x[16..32]].map(|x| {
        let scaled = Lanes::from_slice(simd, x) * inverse;
        let mut level = Lanes::splat(simd, 0.0);
        for (number, middle) in (1u8..).zip(MIDDLE) {
            level = scaled.simd_lt(middle).select(level, Lanes::splat(simd, f32::from(number)));
        }
        level.to_array()
    });
    for ((out, low), high) in out.iter_mut().zip(low).zip(high) {
        *out = low as u8 | (high as u8) << 4;
    }
}

/// Rounds the scales of a super-block to six bits and writes the block.
#[inline(always)]
fn store<S: Simd>(simd: S, weights: &[f32; 256], block: &mut [u8; 136], scales: &[Lanes<S>; 8], lane: usize) {
    let (mut size, mut max) = (0.0, 0.0);
    for scale in scales {
        let scale = scale[lane];
        if scale.abs() > size {
            (size, max) = (scale.abs(), scale);
        }
    }
    let d = -max / 32.0;
    block[..2].copy_from_slice(&half(d).0);
    let (mut high, mut low) = (0, [0; 4]);
    for (j, (scale, x)) in scales.iter().zip(weights.chunks_exact(SUB_BLOCK)).enumerate() {
        let number = nearest_int(inverse(d) * scale[lane]).clamp(-32, 31);
        levels(simd, x, inverse(d * number as f32), &mut block[8 + 16 * j..][..16]);
        let number = (number + 32) as u8;
        low[j / 2] |= (number & 15) << (4 * (j % 2));
        high |= u16::from(number >> 4) << (2 * j);
    }
    block[2..4].copy_from_slice(&high.to_le_bytes());
    block[4..8].copy_from_slice(&low);
}
