//! Sixteen blocks side by side: groups of blocks, the transposition that puts one block into each lane, and the two
//! roundings of ggml's quantizers. The formats are in the other files.

use fearless_simd::prelude::*;
use fearless_simd::{Simd, f32x16, i32x16};

/// Blocks in a group, one for each lane of [`Lanes`].
pub(super) const LANES: usize = 16;

/// One value for each block of a group.
pub(super) type Lanes<S> = f32x16<S>;

/// 1.5 × 2²³: adding it to a float rounds the float to the nearest integer, ties to even.
const NO_FRACTION: f32 = 12_582_912.0;

/// The largest magnitude that the addition of [`NO_FRACTION`] rounds correctly; ggml's integers wrap beyond it.
pub(super) const ROUNDED_UP_TO: f32 = 4_194_303.0;

/// [`LANES`] blocks of `N` weights and their importance. If the last group has fewer blocks, the last block is
/// repeated.
pub(super) struct Group<'a, const N: usize> {
    /// The number of the first block.
    pub(super) first: usize,
    pub(super) weights: [&'a [f32; N]; LANES],
    pub(super) importance: Option<[&'a [f32; N]; LANES]>,
}

/// Calls `each` with every group of blocks of `src`, and with the blocks of `dst` (of `BYTES` bytes each) to write.
#[inline(always)]
pub(super) fn groups<const N: usize, const BYTES: usize>(
    src: &[f32],
    importance: Option<&[f32]>,
    dst: &mut [u8],
    mut each: impl FnMut(&Group<'_, N>, &mut [[u8; BYTES]]),
) {
    let (blocks, _) = src.as_chunks::<N>();
    let (filled, _) = dst.as_chunks_mut::<BYTES>();
    let row = importance.map(|values| values.as_chunks::<N>().0).filter(|row| !row.is_empty());
    for (number, (blocks, filled)) in blocks.chunks(LANES).zip(filled.chunks_mut(LANES)).enumerate() {
        let mut weights = [&blocks[0]; LANES];
        let mut beside = row.map(|row| [&row[0]; LANES]);
        for lane in 0..LANES {
            let block = lane.min(blocks.len() - 1);
            weights[lane] = &blocks[block];
            if let (Some(beside), Some(row)) = (&mut beside, row) {
                beside[lane] = &row[(number * LANES + block) % row.len()];
            }
        }
        each(&Group { first: number * LANES, weights, importance: beside }, filled);
    }
}

/// Transposes the weights `at..at + N` of every block: element `i` has weight `at + i` of each block.
#[inline(always)]
pub(super) fn transposed<S: Simd, const N: usize, const BLOCK: usize>(
    simd: S,
    blocks: &[&[f32; BLOCK]; LANES],
    at: usize,
) -> [Lanes<S>; N] {
    let mut out = [Lanes::splat(simd, 0.0); N];
    for (part, out) in out.chunks_exact_mut(LANES).enumerate() {
        let mut rows = [Lanes::splat(simd, 0.0); LANES];
        for (row, block) in rows.iter_mut().zip(blocks) {
            *row = Lanes::from_slice(simd, &block[at + part * LANES..][..LANES]);
        }
        // four perfect shuffles; each interleaves the first half of the rows with the second
        for _ in 0..4 {
            let from = rows;
            for i in 0..LANES / 2 {
                (rows[2 * i], rows[2 * i + 1]) = from[i].interleave(from[i + LANES / 2]);
            }
        }
        out.copy_from_slice(&rows);
    }
    out
}

/// Returns, for each block, the largest magnitude of its weights `x`, and the first weight that has it.
#[inline(always)]
pub(super) fn largest<S: Simd>(simd: S, x: &[Lanes<S>]) -> (Lanes<S>, Lanes<S>) {
    let zero = Lanes::splat(simd, 0.0);
    x.iter().fold((zero, zero), |(size, weight), &x| {
        let larger = x.abs().simd_gt(size);
        (larger.select(x.abs(), size), larger.select(x, weight))
    })
}

/// Rounds to the nearest integer, as a float; correct up to [`ROUNDED_UP_TO`].
#[inline(always)]
pub(super) fn rounded<S: Simd>(v: Lanes<S>) -> Lanes<S> {
    (v + NO_FRACTION) - NO_FRACTION
}

/// ggml's `nearest_int` for any input; out-of-range values and NaN give the same wrapped integers.
#[inline(always)]
pub(super) fn nearest<S: Simd>(v: Lanes<S>) -> i32x16<S> {
    let bits: i32x16<S> = (v + NO_FRACTION).to_bits().bitcast();
    (bits & 0x007f_ffff) - 0x0040_0000
}

/// Like [`nearest`], for one value.
#[inline(always)]
pub(super) fn nearest_int(v: f32) -> i32 {
    ((v + NO_FRACTION).to_bits() & 0x007f_ffff) as i32 - 0x0040_0000
}

/// Returns a half-precision scale as ggml stores it, and its value.
#[inline(always)]
pub(super) fn half(v: f32) -> ([u8; 2], f32) {
    let half = half::f16::from_f32(v);
    (half.to_le_bytes(), half.to_f32())
}
