//! q4_K and q5_K: super-blocks of eight sub-blocks of 32 weights, each with a 6-bit scale and a 6-bit minimum.
//!
//! | bytes | q4_K | q5_K |
//! |---|---|---|
//! | factors of the scales and of the minima, f16 | 0..4 | 0..4 |
//! | scales and minima, 6 bits each | 4..16 | 4..16 |
//! | fifth bits, 32 bytes | | 16..48 |
//! | low four bits, two sub-blocks per 32 bytes | 16..144 | 48..176 |

use super::lanes::{Group, LANES, Lanes, groups, half, nearest_int, transposed};
use super::search_scale_min::{Best, Search, search};
use super::superblock_scales::{Fitted, fit};
use fearless_simd::Simd;
use fearless_simd::prelude::*;

const SUPER_BLOCK: usize = 256;
const SUB_BLOCK: usize = 32;
const SUB_BLOCKS: usize = SUPER_BLOCK / SUB_BLOCK;

/// Returns ggml's search for `bits` bits. With an imatrix it is longer and the same for both types.
const fn searched(bits: u32, importance: bool) -> Search {
    let top = ((1 << bits) - 1) as f32;
    match (importance, bits) {
        (true, _) => Search { top, from: -0.9, by: 0.05, steps: 36, distance: false, saturate: true },
        (false, 4) => Search { top, from: -1.0, by: 0.1, steps: 20, distance: false, saturate: false },
        (false, _) => Search { top, from: -0.5, by: 0.1, steps: 15, distance: false, saturate: false },
    }
}

/// q4_K of whole super-blocks.
#[inline(always)]
pub(super) fn q4_k<S: Simd>(simd: S, src: &[f32], importance: Option<&[f32]>, dst: &mut [u8]) {
    groups(src, importance, dst, |group, blocks: &mut [[u8; 144]]| {
        simd.vectorize(
            #[inline(always)]
            || super_blocks::<S, 4, 144>(simd, group, blocks),
        );
    });
}

/// q5_K of whole super-blocks.
#[inline(always)]
pub(super) fn q5_k<S: Simd>(simd: S, src: &[f32], importance: Option<&[f32]>, dst: &mut [u8]) {
    groups(src, importance, dst, |group, blocks: &mut [[u8; 176]]| {
        simd.vectorize(
            #[inline(always)]
            || super_blocks::<S, 5, 176>(simd, group, blocks),
        );
    });
}

#[inline(always)]
fn super_blocks<S: Simd, const BITS: u32, const BYTES: usize>(
    simd: S,
    group: &Group<'_, SUPER_BLOCK>,
    blocks: &mut [[u8; BYTES]],
) {
    match &group.importance {
        None => {
            let search = const { searched(BITS, false) };
            let best = unweighted::<S>(simd, group, search);
            for (lane, block) in blocks.iter_mut().enumerate() {
                store::<S, BITS, BYTES>(group.weights[lane], block, &best, search, lane, plain_scales(&best, lane));
            }
        }
        Some(importance) => {
            let search = const { searched(BITS, true) };
            let (best, scales, mins) = weighted::<S>(simd, group, importance, search);
            for (lane, block) in blocks.iter_mut().enumerate() {
                let stored = Scales {
                    factors: [scales.factor[lane], mins.factor[lane]],
                    numbers: scales.numbers.map(|n| n[lane].min(63)),
                    minima: mins.numbers.map(|n| n[lane].min(63)),
                };
                store::<S, BITS, BYTES>(group.weights[lane], block, &best, search, lane, stored);
            }
        }
    }
}

/// Searches the grids without an imatrix.
#[inline(always)]
fn unweighted<S: Simd>(simd: S, group: &Group<'_, SUPER_BLOCK>, grids: Search) -> [Best<S>; SUB_BLOCKS] {
    let mut best = [Best::none(simd); SUB_BLOCKS];
    for (number, best) in best.iter_mut().enumerate() {
        let x = transposed::<S, SUB_BLOCK, SUPER_BLOCK>(simd, &group.weights, number * SUB_BLOCK);
        let mut sum = Lanes::splat(simd, 0.0);
        for &x in &x {
            sum += x * x;
        }
        let average = (sum / SUB_BLOCK as f32).sqrt();
        let mut w = x;
        for w in &mut w {
            *w = average + w.abs();
        }
        *best = search(simd, &x, &w, grids);
    }
    best
}

type Weighted<S> = ([Best<S>; SUB_BLOCKS], Fitted<S, SUB_BLOCKS>, Fitted<S, SUB_BLOCKS>);

/// Searches the grids with an imatrix, and fits the scales and minima.
#[inline(always)]
fn weighted<S: Simd>(
    simd: S,
    group: &Group<'_, SUPER_BLOCK>,
    importance: &[&[f32; SUPER_BLOCK]; LANES],
    grids: Search,
) -> Weighted<S> {
    let zero = Lanes::splat(simd, 0.0);
    let mut sum = zero;
    for number in 0..SUB_BLOCKS {
        for x in transposed::<S, SUB_BLOCK, SUPER_BLOCK>(simd, &group.weights, number * SUB_BLOCK) {
            sum += x * x;
        }
    }
    let variance = sum * 2.0 / SUPER_BLOCK as f32;
    let mut best = [Best::none(simd); SUB_BLOCKS];
    let (mut scales, mut mins, mut sums) = ([zero; SUB_BLOCKS], [zero; SUB_BLOCKS], [zero; SUB_BLOCKS]);
    for number in 0..SUB_BLOCKS {
        let x = transposed::<S, SUB_BLOCK, SUPER_BLOCK>(simd, &group.weights, number * SUB_BLOCK);
        let mut w = transposed::<S, SUB_BLOCK, SUPER_BLOCK>(simd, importance, number * SUB_BLOCK);
        for (w, &x) in w.iter_mut().zip(&x) {
            *w *= (variance + x * x).sqrt();
            sums[number] += *w;
        }
        best[number] = search(simd, &x, &w, grids);
        scales[number] = best[number].scale;
        mins[number] = best[number].min;
    }
    (best, fit(simd, &scales, &sums, 63), fit(simd, &mins, &sums, 63))
}

/// The stored scales and minima of a super-block.
struct Scales {
    /// Factors of the scales and of the minima.
    factors: [f32; 2],
    numbers: [u8; SUB_BLOCKS],
    minima: [u8; SUB_BLOCKS],
}

/// Rounds scales and minima to 63rds of the largest.
#[inline(always)]
fn plain_scales<S: Simd>(best: &[Best<S>; SUB_BLOCKS], lane: usize) -> Scales {
    let of = |value: fn(&Best<S>) -> Lanes<S>| {
        let mut max = 0.0;
        for best in best {
            let v = value(best)[lane];
            max = if v > max { v } else { max };
        }
        let inverse = if max > 0.0 { 63.0 / max } else { 0.0 };
        let mut numbers = [0; SUB_BLOCKS];
        for (number, best) in numbers.iter_mut().zip(best) {
            // in ggml a negative number wraps in its byte before it is clamped below 64
            *number = (nearest_int(inverse * value(best)[lane]) as u8).min(63);
        }
        (max / 63.0, numbers)
    };
    let (scale, numbers) = of(|best| best.scale);
    let (min, minima) = of(|best| best.min);
    Scales { factors: [scale, min], numbers, minima }
}

/// Quantizes the weights with the stored scales and writes the block.
#[inline(always)]
fn store<S: Simd, const BITS: u32, const BYTES: usize>(
    weights: &[f32; SUPER_BLOCK],
    block: &mut [u8; BYTES],
    best: &[Best<S>; SUB_BLOCKS],
    search: Search,
    lane: usize,
    scales: Scales,
) {
    let (d_bytes, d) = half(scales.factors[0]);
    let (min_bytes, min) = half(scales.factors[1]);
    block[..2].copy_from_slice(&d_bytes);
    block[2..4].copy_from_slice(&min_bytes);
    for j in 0..4 {
        let (low, high) = (j + 4, j + 8);
        block[4 + j] = scales.numbers[j] | (scales.numbers[low] >> 4) << 6;
        block[4 + low] = scales.minima[j] | (scales.minima[low] >> 4) << 6;
        block[4 + high] = (scales.numbers[low] & 15) | (scales.minima[low] & 15) << 4;
    }
    let mut levels = [0; SUPER_BLOCK];
    for (j, (levels, x)) in levels.chunks_exact_mut(SUB_BLOCK).zip(weights.chunks_exact(SUB_BLOCK)).enumerate() {
        let d = d * f32::from(scales.numbers[j]);
        let min = min * f32::from(scales.minima[j]);
        if d == 0.0 {
            best[j].levels(search, lane, x, levels);
        } else {
            for (level, x) in levels.iter_mut().zip(x) {
                *level = nearest_int((x + min) / d).clamp(0, (1 << BITS) - 1) as u8;
            }
        }
    }
    let (fifth, low) = block[16..].split_at_mut(if BITS == 5 { SUB_BLOCK } else { 0 });
    for (low, levels) in low.chunks_exact_mut(SUB_BLOCK).zip(levels.chunks_exact(2 * SUB_BLOCK)) {
        let (first, second) = levels.split_at(SUB_BLOCK);
        for ((low, first), second) in low.iter_mut().zip(first).zip(second) {
            *low = (first & 15) | (second & 15) << 4;
        }
    }
    fifth.fill(0);
    for (j, levels) in levels.chunks_exact(SUB_BLOCK).enumerate() {
        for (fifth, level) in fifth.iter_mut().zip(levels) {
            *fifth |= (level >> 4) << j;
        }
    }
}
