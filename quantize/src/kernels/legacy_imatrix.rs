//! q4_0, q5_0, q4_1 and q5_1 with an imatrix: the layouts of `legacy.rs`, the searches of the K-quants.

use super::lanes::{Group, LANES, Lanes, groups, half, transposed};
use super::legacy::{BLOCK, Levels};
use super::search_scale;
use super::search_scale_min;
use fearless_simd::Simd;
use fearless_simd::prelude::*;

/// The weights of a block and their importance, in each lane.
type Weighted<S> = ([Lanes<S>; BLOCK], [Lanes<S>; BLOCK]);

/// q4_0 of whole rows, with the importance of each column.
#[inline(always)]
pub(super) fn q4_0<S: Simd>(simd: S, src: &[f32], importance: &[f32], dst: &mut [u8]) {
    symmetric(simd, src, importance, dst, 8, |levels, block: &mut [u8; 18]| levels.pack(&mut block[2..]));
}

/// q5_0 of whole rows.
#[inline(always)]
pub(super) fn q5_0<S: Simd>(simd: S, src: &[f32], importance: &[f32], dst: &mut [u8]) {
    symmetric(simd, src, importance, dst, 16, |levels, block: &mut [u8; 22]| {
        block[2..6].copy_from_slice(&levels.fifth.to_le_bytes());
        levels.pack(&mut block[6..]);
    });
}

/// q4_1 of whole rows.
#[inline(always)]
pub(super) fn q4_1<S: Simd>(simd: S, src: &[f32], importance: &[f32], dst: &mut [u8]) {
    from_minimum(simd, src, importance, dst, 15.0, |levels, block: &mut [u8; 20]| levels.pack(&mut block[4..]));
}

/// q5_1 of whole rows.
#[inline(always)]
pub(super) fn q5_1<S: Simd>(simd: S, src: &[f32], importance: &[f32], dst: &mut [u8]) {
    from_minimum(simd, src, importance, dst, 31.0, |levels, block: &mut [u8; 24]| {
        block[4..8].copy_from_slice(&levels.fifth.to_le_bytes());
        levels.pack(&mut block[8..]);
    });
}

#[inline(always)]
fn symmetric<S: Simd, const BYTES: usize>(
    simd: S,
    src: &[f32],
    importance: &[f32],
    dst: &mut [u8],
    top: i32,
    write: impl Fn(&Levels, &mut [u8; BYTES]),
) {
    for_each_block(simd, src, importance, dst, |group, (x, w), blocks: &mut [[u8; BYTES]]| {
        let best = search_scale::search(simd, &x, &w, top);
        for (lane, block) in blocks.iter_mut().enumerate() {
            let mut levels = [0; BLOCK];
            best.levels(top, lane, group.weights[lane], &mut levels);
            block[..2].copy_from_slice(&half(best.scale[lane]).0);
            write(&Levels::of(&levels), block);
        }
    });
}

#[inline(always)]
fn from_minimum<S: Simd, const BYTES: usize>(
    simd: S,
    src: &[f32],
    importance: &[f32],
    dst: &mut [u8],
    top: f32,
    write: impl Fn(&Levels, &mut [u8; BYTES]),
) {
    let search = search_scale_min::Search { top, from: -0.9, by: 0.05, steps: 36, distance: false, saturate: true };
    for_each_block(simd, src, importance, dst, |group, (x, w), blocks: &mut [[u8; BYTES]]| {
        let best = search_scale_min::search(simd, &x, &w, search);
        for (lane, block) in blocks.iter_mut().enumerate() {
            let mut levels = [0; BLOCK];
            best.levels(search, lane, group.weights[lane], &mut levels);
            block[..2].copy_from_slice(&half(best.scale[lane]).0);
            block[2..4].copy_from_slice(&half(-best.min[lane]).0);
            write(&Levels::of(&levels), block);
        }
    });
}

/// Calls `one` with every group of blocks. Their importance includes the mean square of the row's weights.
#[inline(always)]
fn for_each_block<S: Simd, const BYTES: usize>(
    simd: S,
    src: &[f32],
    importance: &[f32],
    dst: &mut [u8],
    one: impl Fn(&Group<'_, BLOCK>, Weighted<S>, &mut [[u8; BYTES]]),
) {
    let n_per_row = importance.len();
    let mut variances = Vec::new();
    simd.vectorize(
        #[inline(always)]
        || mean_squares(simd, src, n_per_row, &mut variances),
    );
    groups(src, Some(importance), dst, |group: &Group<'_, BLOCK>, blocks| {
        let Some(columns) = &group.importance else { return };
        simd.vectorize(
            #[inline(always)]
            || {
                let mut variance = [0.0; LANES];
                for (lane, variance) in variance.iter_mut().enumerate() {
                    let block = group.first + lane.min(blocks.len() - 1);
                    *variance = variances[block * BLOCK / n_per_row];
                }
                let variance = Lanes::load_array(simd, variance);
                let x = transposed::<S, BLOCK, BLOCK>(simd, &group.weights, 0);
                let mut w = transposed::<S, BLOCK, BLOCK>(simd, columns, 0);
                for (w, &x) in w.iter_mut().zip(&x) {
                    *w *= (variance + x * x).sqrt();
                }
                one(group, (x, w), blocks);
            },
        );
    });
}

/// Computes the mean square of every row, sixteen rows side by side, because each sum must follow the order of the
/// columns.
#[inline(always)]
fn mean_squares<S: Simd>(simd: S, src: &[f32], n_per_row: usize, out: &mut Vec<f32>) {
    for rows in src.chunks(LANES * n_per_row) {
        let count = rows.len() / n_per_row;
        let (blocks, _) = rows.as_chunks::<BLOCK>();
        let mut sum = Lanes::splat(simd, 0.0);
        for column in 0..n_per_row / BLOCK {
            let mut beside = [&blocks[0]; LANES];
            for (lane, block) in beside.iter_mut().enumerate() {
                *block = &blocks[lane.min(count - 1) * (n_per_row / BLOCK) + column];
            }
            for x in transposed::<S, BLOCK, BLOCK>(simd, &beside, 0) {
                sum += x * x;
            }
        }
        out.extend_from_slice(&(sum / n_per_row as f32).as_slice()[..count]);
    }
}
