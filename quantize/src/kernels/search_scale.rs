//! Search for the scale with the least weighted error among nineteen candidates, with signed levels (q6_K; q3_K, q4_0
//! and q5_0 with an imatrix), for one sub-block of every lane. The callers store it.

use super::lanes::{Lanes, largest, nearest_int, rounded};
use super::superblock_scales::GROUP_MAX_EPS;
use fearless_simd::Simd;
use fearless_simd::prelude::*;

/// The best scale of one sub-block in each lane.
#[derive(Clone, Copy)]
pub(super) struct Best<S: Simd> {
    pub(super) scale: Lanes<S>,
    /// The inverse scale of the best levels; zero where all weights are below [`GROUP_MAX_EPS`].
    inverse: Lanes<S>,
}

impl<S: Simd> Best<S> {
    #[inline(always)]
    pub(super) fn none(simd: S) -> Self {
        let zero = Lanes::splat(simd, 0.0);
        Self { scale: zero, inverse: zero }
    }

    /// Writes the levels of the search for one lane, counted from the lowest (-`top`). If all weights are below
    /// [`GROUP_MAX_EPS`], they are zero, not `top`.
    #[inline(always)]
    pub(super) fn levels(&self, top: i32, lane: usize, weights: &[f32], levels: &mut [u8]) {
        let inverse = self.inverse[lane];
        let zero = if inverse == 0.0 { 0 } else { top };
        for (level, x) in levels.iter_mut().zip(weights) {
            *level = (zero + nearest_int(inverse * x).clamp(-top, top - 1)) as u8;
        }
    }
}

/// Finds the best scale for weights `x` with importance `w`; levels are -`top` to `top` - 1.
#[inline(always)]
pub(super) fn search<S: Simd, const N: usize>(simd: S, x: &[Lanes<S>; N], w: &[Lanes<S>; N], top: i32) -> Best<S> {
    let zero = Lanes::splat(simd, 0.0);
    let top = top as f32;
    // the first weight of the largest magnitude gets the lowest level, because there is one more negative level
    let (size, max) = largest(simd, x);
    let is_tiny = size.simd_lt(GROUP_MAX_EPS);
    let mut wx = *x;
    for (wx, &w) in wx.iter_mut().zip(w) {
        *wx = w * *wx;
    }
    let mut inverse = -top / max;
    let (lx, l2) = sums(x, w, &wx, top, inverse);
    let mut scale = l2.simd_ne(zero).select(lx / l2, zero);
    let mut best = scale * lx;
    for step in (-9i8..=9).filter(|&step| step != 0) {
        let step_inverse = -(top + 0.1 * f32::from(step)) / max;
        let (lx, l2) = sums(x, w, &wx, top, step_inverse);
        let better = l2.simd_gt(zero) & (lx * lx).simd_gt(best * l2);
        scale = better.select(lx / l2, scale);
        best = better.select(scale * lx, best);
        inverse = better.select(step_inverse, inverse);
    }
    Best { scale: is_tiny.select(zero, scale), inverse: is_tiny.select(zero, inverse) }
}

/// Returns the two sums of the least-squares fit. Before clamping, levels are at most `top` + 0.9, which the fast
/// rounding supports. Lanes of tiny weights divide by zero; the caller ignores their results.
#[inline(always)]
fn sums<S: Simd, const N: usize>(
    x: &[Lanes<S>; N],
    w: &[Lanes<S>; N],
    wx: &[Lanes<S>; N],
    top: f32,
    inverse: Lanes<S>,
) -> (Lanes<S>, Lanes<S>) {
    let (mut lx, mut l2) = (Lanes::splat(inverse.simd, 0.0), Lanes::splat(inverse.simd, 0.0));
    for i in 0..N {
        let l = rounded(inverse * x[i]).max(-top).min(top - 1.0);
        lx += wx[i] * l;
        l2 += w[i] * l * l;
    }
    (lx, l2)
}
