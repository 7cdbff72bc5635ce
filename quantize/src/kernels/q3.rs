//! q3_K: super-blocks of sixteen sub-blocks of 16 weights, each with a 6-bit scale and no minimum.
//!
//! | bytes | |
//! |---|---|
//! | third bits | 0..32 |
//! | low two bits, four per byte | 32..96 |
//! | scales: low four bits, then high two | 96..108 |
//! | factor of the scales, f16 | 108..110 |

use super::lanes::{Group, LANES, Lanes, groups, half, largest, nearest, nearest_int, transposed};
use super::q2::pack;
use super::search_scale;
use super::superblock_scales::GROUP_MAX_EPS;
use fearless_simd::Simd;
use fearless_simd::prelude::*;

const SUPER_BLOCK: usize = 256;
const SUB_BLOCK: usize = 16;
const SUB_BLOCKS: usize = SUPER_BLOCK / SUB_BLOCK;
const BYTES: usize = 110;
/// Levels are -4 to 3, scales are -32 to 31.
const TOP: i32 = 4;
const TOP_SCALE: i32 = 32;

/// q3_K of whole super-blocks.
#[inline(always)]
pub(super) fn q3_k<S: Simd>(simd: S, src: &[f32], importance: Option<&[f32]>, dst: &mut [u8]) {
    groups(src, importance, dst, |group, blocks: &mut [[u8; BYTES]]| {
        simd.vectorize(
            #[inline(always)]
            || match &group.importance {
                None => unweighted(simd, group, blocks),
                Some(importance) => weighted(simd, group, importance, blocks),
            },
        );
    });
}

/// Quantizes without an imatrix: the importance is x², and scales are 32nds of the largest.
#[inline(always)]
fn unweighted<S: Simd>(simd: S, group: &Group<'_, SUPER_BLOCK>, blocks: &mut [[u8; BYTES]]) {
    let zero = Lanes::splat(simd, 0.0);
    let (mut scales, mut searched) = ([zero; SUB_BLOCKS], [[zero; SUB_BLOCK]; SUB_BLOCKS]);
    for (number, (scale, levels)) in scales.iter_mut().zip(&mut searched).enumerate() {
        let x = transposed::<S, SUB_BLOCK, SUPER_BLOCK>(simd, &group.weights, number * SUB_BLOCK);
        (*scale, *levels) = refined(simd, &x);
    }
    for (lane, block) in blocks.iter_mut().enumerate() {
        let (mut size, mut max) = (0.0, 0.0);
        for scale in scales {
            let scale = scale[lane];
            if scale.abs() > size {
                (size, max) = (scale.abs(), scale);
            }
        }
        let (mut d, mut numbers) = (0.0, [0; SUB_BLOCKS]);
        if max != 0.0 {
            let inverse = -32.0 / max;
            d = 1.0 / inverse;
            for (number, scale) in numbers.iter_mut().zip(scales) {
                let whole = i32::from(nearest_int(inverse * scale[lane]) as i8);
                *number = (whole.clamp(-TOP_SCALE, TOP_SCALE - 1) + TOP_SCALE) as u8;
            }
        }
        store(simd, group.weights[lane], block, d, numbers, |number, levels| {
            for (level, searched) in levels.iter_mut().zip(searched[number]) {
                *level = searched[lane] as u8;
            }
        });
    }
}

/// Returns the scale of a sub-block and its levels, counted from the lowest. The largest weight gets the lowest level;
/// then one level after another is changed while the error decreases.
#[inline(always)]
fn refined<S: Simd>(simd: S, x: &[Lanes<S>; SUB_BLOCK]) -> (Lanes<S>, [Lanes<S>; SUB_BLOCK]) {
    let zero = Lanes::splat(simd, 0.0);
    let (size, max) = largest(simd, x);
    let is_tiny = size.simd_lt(GROUP_MAX_EPS);
    let inverse = f32::from(-4i8) / max;
    let mut levels = [zero; SUB_BLOCK];
    let (mut sum_lx, mut sum_l2) = (zero, zero);
    for (level, &x) in levels.iter_mut().zip(x) {
        let l: Lanes<S> = nearest(inverse * x).max(-TOP).min(TOP - 1).to_float();
        *level = l;
        sum_lx += x * x * x * l;
        sum_l2 += x * x * l * l;
    }
    // a converged lane stays converged in further rounds
    for _ in 0..5 {
        let mut changed = false;
        for (level, &x) in levels.iter_mut().zip(x) {
            let w = x * x;
            let lx = sum_lx - w * x * *level;
            let l2 = sum_l2 - w * *level * *level;
            let new: Lanes<S> = nearest(x * l2 / lx).max(-TOP).min(TOP - 1).to_float();
            let new_lx = lx + w * x * new;
            let new_l2 = l2 + w * new * new;
            let better = lx.simd_gt(zero)
                & new.simd_ne(*level)
                & new_l2.simd_gt(zero)
                & (new_lx * new_lx * sum_l2).simd_gt(sum_lx * sum_lx * new_l2);
            *level = better.select(new, *level);
            sum_lx = better.select(new_lx, sum_lx);
            sum_l2 = better.select(new_l2, sum_l2);
            changed |= better.any_true();
        }
        if !changed {
            break;
        }
    }
    for level in &mut levels {
        *level = is_tiny.select(zero, *level + TOP as f32);
    }
    (is_tiny.select(zero, sum_l2.simd_gt(zero).select(sum_lx / sum_l2, zero)), levels)
}

/// Quantizes with an imatrix: the same search finds the levels and then the stored scales.
#[inline(always)]
fn weighted<S: Simd>(
    simd: S,
    group: &Group<'_, SUPER_BLOCK>,
    importance: &[&[f32; SUPER_BLOCK]; LANES],
    blocks: &mut [[u8; BYTES]],
) {
    let zero = Lanes::splat(simd, 0.0);
    let mut sum = zero;
    for number in 0..SUB_BLOCKS {
        for x in transposed::<S, SUB_BLOCK, SUPER_BLOCK>(simd, &group.weights, number * SUB_BLOCK) {
            sum += x * x;
        }
    }
    let variance = sum * 2.0 / SUPER_BLOCK as f32;
    let mut best = [search_scale::Best::none(simd); SUB_BLOCKS];
    let (mut scales, mut sums) = ([zero; SUB_BLOCKS], [zero; SUB_BLOCKS]);
    for number in 0..SUB_BLOCKS {
        let x = transposed::<S, SUB_BLOCK, SUPER_BLOCK>(simd, &group.weights, number * SUB_BLOCK);
        let mut w = transposed::<S, SUB_BLOCK, SUPER_BLOCK>(simd, importance, number * SUB_BLOCK);
        for (w, &x) in w.iter_mut().zip(&x) {
            *w *= (variance + x * x).sqrt();
            sums[number] += *w;
        }
        best[number] = search_scale::search(simd, &x, &w, TOP);
        scales[number] = best[number].scale;
    }
    let fitted = search_scale::search(simd, &scales, &sums, TOP_SCALE);
    for (lane, block) in blocks.iter_mut().enumerate() {
        let mut numbers = [0; SUB_BLOCKS];
        fitted.levels(TOP_SCALE, lane, &scales.map(|scale| scale[lane]), &mut numbers);
        let weights = group.weights[lane];
        store(simd, weights, block, fitted.scale[lane], numbers, |number, levels| {
            best[number].levels(TOP, lane, &weights[number * SUB_BLOCK..], levels);
        });
    }
}

/// Quantizes the weights with the stored scales and writes the block. `searched` returns the levels of the search, for
/// sub-blocks whose stored scale is zero.
#[inline(always)]
fn store<S: Simd>(
    simd: S,
    weights: &[f32; SUPER_BLOCK],
    block: &mut [u8; BYTES],
    d: f32,
    numbers: [u8; SUB_BLOCKS],
    searched: impl Fn(usize, &mut [u8]),
) {
    let (d_bytes, d) = half(d);
    block[108..].copy_from_slice(&d_bytes);
    let scales = &mut block[96..108];
    scales.fill(0);
    for (j, number) in numbers.into_iter().enumerate() {
        scales[j % 8] |= (number & 15) << (4 * (j / 8));
        scales[8 + j % 4] |= (number >> 4) << (2 * (j / 4));
    }
    let mut levels = [0; SUPER_BLOCK];
    for (j, (levels, x)) in levels.chunks_exact_mut(SUB_BLOCK).zip(weights.chunks_exact(SUB_BLOCK)).enumerate() {
        let d = d * (f32::from(numbers[j]) - TOP_SCALE as f32);
        if d == 0.0 {
            searched(j, levels);
        } else {
            let whole = nearest(Lanes::from_slice(simd, x) / d).max(-TOP).min(TOP - 1) + TOP;
            for (level, whole) in levels.iter_mut().zip(whole.to_array()) {
                *level = whole as u8;
            }
        }
    }
    for i in 0..32 {
        let mut third = 0;
        for j in 0..8 {
            third |= (levels[j * 32 + i] >> 2 & 1) << j;
        }
        block[i] = third;
    }
    pack(&levels, &mut block[32..96]);
}
