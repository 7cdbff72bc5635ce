//! q6_K: super-blocks of sixteen sub-blocks of 16 weights, each with an 8-bit scale and no minimum.
//!
//! | bytes | |
//! |---|---|
//! | low four bits | 0..128 |
//! | high two bits | 128..192 |
//! | scales, signed | 192..208 |
//! | factor of the scales, f16 | 208..210 |

use super::lanes::{Group, groups, half, nearest_int, transposed};
use super::search_scale::{Best, search};
use super::superblock_scales::GROUP_MAX_EPS;
use fearless_simd::Simd;

const SUPER_BLOCK: usize = 256;
const SUB_BLOCK: usize = 16;
const SUB_BLOCKS: usize = SUPER_BLOCK / SUB_BLOCK;
const BYTES: usize = 210;
/// Levels are -32 to 31.
const TOP: i32 = 32;

/// q6_K of whole super-blocks.
#[inline(always)]
pub(super) fn q6_k<S: Simd>(simd: S, src: &[f32], importance: Option<&[f32]>, dst: &mut [u8]) {
    groups(src, importance, dst, |group, blocks: &mut [[u8; BYTES]]| {
        simd.vectorize(
            #[inline(always)]
            || {
                let best = scales(simd, group);
                for (lane, block) in blocks.iter_mut().enumerate() {
                    store(group.weights[lane], block, &best, lane);
                }
            },
        );
    });
}

/// Returns the best scale of every sub-block. Without an imatrix the importance is x².
#[inline(always)]
fn scales<S: Simd>(simd: S, group: &Group<'_, SUPER_BLOCK>) -> [Best<S>; SUB_BLOCKS] {
    let mut best = [Best::none(simd); SUB_BLOCKS];
    for (number, best) in best.iter_mut().enumerate() {
        let at = number * SUB_BLOCK;
        let x = transposed::<S, SUB_BLOCK, SUPER_BLOCK>(simd, &group.weights, at);
        let mut w = x;
        if let Some(importance) = &group.importance {
            w = transposed::<S, SUB_BLOCK, SUPER_BLOCK>(simd, importance, at);
        } else {
            for w in &mut w {
                *w *= *w;
            }
        }
        *best = search(simd, &x, &w, TOP);
    }
    best
}

/// Quantizes the weights with the stored scales and writes the block.
#[inline(always)]
fn store<S: Simd>(weights: &[f32; SUPER_BLOCK], block: &mut [u8; BYTES], best: &[Best<S>; SUB_BLOCKS], lane: usize) {
    let (mut size, mut max) = (0.0, 0.0);
    for best in best {
        let scale = best.scale[lane];
        if scale.abs() > size {
            (size, max) = (scale.abs(), scale);
        }
    }
    if size < GROUP_MAX_EPS {
        *block = [0; BYTES];
        return;
    }
    let inverse = -128.0 / max;
    let (d_bytes, d) = half(1.0 / inverse);
    block[208..].copy_from_slice(&d_bytes);
    let mut levels = [0; SUPER_BLOCK];
    for (j, (levels, x)) in levels.chunks_exact_mut(SUB_BLOCK).zip(weights.chunks_exact(SUB_BLOCK)).enumerate() {
        let number = nearest_int(inverse * best[j].scale[lane]).min(127) as i8;
        block[192 + j] = number.cast_unsigned();
        let d = d * f32::from(number);
        if d == 0.0 {
            best[j].levels(TOP, lane, x, levels);
        } else {
            for (level, x) in levels.iter_mut().zip(x) {
                *level = (nearest_int(x / d).clamp(-TOP, TOP - 1) + TOP) as u8;
            }
        }
    }
    let (low, rest) = block.split_at_mut(128);
    for ((low, high), levels) in
        low.chunks_exact_mut(64).zip(rest[..64].chunks_exact_mut(32)).zip(levels.chunks_exact(128))
    {
        for i in 0..32 {
            let [a, b, c, d] = [levels[i], levels[i + 32], levels[i + 64], levels[i + 96]];
            low[i] = (a & 15) | (c & 15) << 4;
            low[i + 32] = (b & 15) | (d & 15) << 4;
            high[i] = (a >> 4) | (b >> 4) << 2 | (c >> 4) << 4 | (d >> 4) << 6;
        }
    }
}
