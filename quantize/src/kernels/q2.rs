//! q2_K: super-blocks of sixteen sub-blocks of 16 weights, each with a 4-bit scale and a 4-bit minimum.
//!
//! | bytes | |
//! |---|---|
//! | scales low, minima high | 0..16 |
//! | levels, four per byte | 16..80 |
//! | factors of the scales and of the minima, f16 | 80..84 |

use super::lanes::{Group, LANES, Lanes, groups, half, nearest_int, transposed};
use super::search_scale_min::{Best, Search, search};
use super::superblock_scales::fit;
use fearless_simd::Simd;
use fearless_simd::prelude::*;

const SUPER_BLOCK: usize = 256;
const SUB_BLOCK: usize = 16;
const SUB_BLOCKS: usize = SUPER_BLOCK / SUB_BLOCK;
const BYTES: usize = 84;
const TOP: i32 = 3;

const UNWEIGHTED: Search = Search { top: 3.0, from: -0.5, by: 0.1, steps: 15, distance: true, saturate: false };
const WEIGHTED: Search = Search { top: 3.0, from: -0.9, by: 0.05, steps: 36, distance: false, saturate: true };

/// The stored scales and minima of a super-block.
struct Scales {
    /// Factors of the scales and of the minima.
    factors: [f32; 2],
    bytes: [u8; SUB_BLOCKS],
}

/// q2_K of whole super-blocks.
#[inline(always)]
pub(super) fn q2_k<S: Simd>(simd: S, src: &[f32], importance: Option<&[f32]>, dst: &mut [u8]) {
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

/// Quantizes without an imatrix: the importance is |x|, and scales and minima are 15ths of the largest.
#[inline(always)]
fn unweighted<S: Simd>(simd: S, group: &Group<'_, SUPER_BLOCK>, blocks: &mut [[u8; BYTES]]) {
    let mut best = [Best::none(simd); SUB_BLOCKS];
    for (number, best) in best.iter_mut().enumerate() {
        let x = transposed::<S, SUB_BLOCK, SUPER_BLOCK>(simd, &group.weights, number * SUB_BLOCK);
        *best = search(simd, &x, &x.map(Lanes::abs), UNWEIGHTED);
    }
    for (lane, block) in blocks.iter_mut().enumerate() {
        let (scale, numbers) = fifteenths(best.map(|best| best.scale[lane]));
        let (min, minima) = fifteenths(best.map(|best| best.min[lane]));
        let mut bytes = [0; SUB_BLOCKS];
        for (byte, (number, min)) in bytes.iter_mut().zip(numbers.into_iter().zip(minima)) {
            // as in ggml, the upper bits of a negative scale change the bits of the minimum
            *byte = number as u8 | (min << 4) as u8;
        }
        store(group.weights[lane], block, &best, UNWEIGHTED, lane, &Scales { factors: [scale, min], bytes });
    }
}

#[inline(always)]
fn fifteenths(values: [f32; SUB_BLOCKS]) -> (f32, [i32; SUB_BLOCKS]) {
    let mut max = 0.0;
    for v in values {
        max = if v > max { v } else { max };
    }
    if max > 0.0 { (max / 15.0, values.map(|v| nearest_int(15.0 / max * v))) } else { (0.0, [0; SUB_BLOCKS]) }
}

/// Quantizes with an imatrix: scales and minima are fitted.
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
    let variance = sum / SUPER_BLOCK as f32;
    let mut best = [Best::none(simd); SUB_BLOCKS];
    let (mut scales, mut mins, mut sums) = ([zero; SUB_BLOCKS], [zero; SUB_BLOCKS], [zero; SUB_BLOCKS]);
    for number in 0..SUB_BLOCKS {
        let x = transposed::<S, SUB_BLOCK, SUPER_BLOCK>(simd, &group.weights, number * SUB_BLOCK);
        let mut w = transposed::<S, SUB_BLOCK, SUPER_BLOCK>(simd, importance, number * SUB_BLOCK);
        for (w, &x) in w.iter_mut().zip(&x) {
            *w *= (variance + x * x).sqrt();
            sums[number] += *w;
        }
        best[number] = search(simd, &x, &w, WEIGHTED);
        scales[number] = best[number].scale;
        mins[number] = best[number].min;
    }
    let (scales, mins) = (fit(simd, &scales, &sums, 15), fit(simd, &mins, &sums, 15));
    for (lane, block) in blocks.iter_mut().enumerate() {
        let mut bytes = [0; SUB_BLOCKS];
        for (j, byte) in bytes.iter_mut().enumerate() {
            *byte = scales.numbers[j][lane] | mins.numbers[j][lane] << 4;
        }
        let factors = [scales.factor[lane], mins.factor[lane]];
        store(group.weights[lane], block, &best, WEIGHTED, lane, &Scales { factors, bytes });
    }
}

/// Quantizes the weights with the stored scales and writes the block.
#[inline(always)]
fn store<S: Simd>(
    weights: &[f32; SUPER_BLOCK],
    block: &mut [u8; BYTES],
    best: &[Best<S>; SUB_BLOCKS],
    search: Search,
    lane: usize,
    scales: &Scales,
) {
    let (d_bytes, d) = half(scales.factors[0]);
    let (min_bytes, min) = half(scales.factors[1]);
    block[..16].copy_from_slice(&scales.bytes);
    block[80..82].copy_from_slice(&d_bytes);
    block[82..].copy_from_slice(&min_bytes);
    let mut levels = [0; SUPER_BLOCK];
    for (j, (levels, x)) in levels.chunks_exact_mut(SUB_BLOCK).zip(weights.chunks_exact(SUB_BLOCK)).enumerate() {
        let d = d * f32::from(scales.bytes[j] & 15);
        let min = min * f32::from(scales.bytes[j] >> 4);
        if d == 0.0 {
            best[j].levels(search, lane, x, levels);
        } else {
            for (level, x) in levels.iter_mut().zip(x) {
                *level = nearest_int((x + min) / d).clamp(0, TOP) as u8;
            }
        }
    }
    pack(&levels, &mut block[16..80]);
}

/// Writes the low two bits of the levels of a super-block, four per byte.
#[inline(always)]
pub(super) fn pack(levels: &[u8; SUPER_BLOCK], out: &mut [u8]) {
    for (out, levels) in out.chunks_exact_mut(32).zip(levels.chunks_exact(128)) {
        for (i, out) in out.iter_mut().enumerate() {
            let [a, b, c, d] = [levels[i], levels[i + 32], levels[i + 64], levels[i + 96]].map(|level| level & 3);
            *out = a | b << 2 | c << 4 | d << 6;
        }
    }
}
