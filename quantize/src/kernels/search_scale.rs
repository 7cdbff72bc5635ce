//! The search of the types that store a scale and signed levels (q6_K; q3_K, q4_0 and q5_0 with importance): for one
//! sub-block of every lane, the scale with the least weighted error among nineteen. How it is stored is the business of
//! the callers.

use super::lanes::{Lanes, nearest_int, rounded};
use super::superblock_scales::GROUP_MAX_EPS;
use fearless_simd::Simd;
use fearless_simd::prelude::*;

/// The best scale of one sub-block in each lane.
#[derive(Clone, Copy)]
pub(super) struct Best<S: Simd> {
    pub(super) scale: Lanes<S>,
    /// What the weights were multiplied by for the levels of the best scale; zero where all weights are nothing.
    inverse: Lanes<S>,
}

impl<S: Simd> Best<S> {
    #[inline(always)]
    pub(super) fn none(simd: S) -> Self {
        let zero = Lanes::splat(simd, 0.0);
        Self { scale: zero, inverse: zero }
    }

    /// The levels of the search itself, of one lane, counted from the lowest (-`top`). All are zero, not `top`, where
    /// the weights are nothing.
    #[inline(always)]
    pub(super) fn levels(&self, top: i32, lane: usize, weights: &[f32], levels: &mut [u8]) {
        let inverse = self.inverse[lane];
        let zero = if inverse == 0.0 { 0 } else { top };
        for (level, x) in levels.iter_mut().zip(weights) {
            *level = (zero + nearest_int(inverse * x).clamp(-top, top - 1)) as u8;
        }
    }
}

/// Finds the best scale for weights `x` with importance `w`; levels go from -`top` to `top` - 1.
#[inline(always)]
pub(super) fn search<S: Simd, const N: usize>(simd: S, x: &[Lanes<S>; N], w: &[Lanes<S>; N], top: i32) -> Best<S> {
    let zero = Lanes::splat(simd, 0.0);
    let top = top as f32;
    // the first weight of the largest magnitude, which is given the lowest level: there is one more of those
    let (mut size, mut max) = (zero, zero);
    for &x in x {
        let larger = x.abs().simd_gt(size);
        size = larger.select(x.abs(), size);
        max = larger.select(x, max);
    }
    let nothing = size.simd_lt(GROUP_MAX_EPS);
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
    Best { scale: nothing.select(zero, scale), inverse: nothing.select(zero, inverse) }
}

/// The two sums of the least-squares fit. The largest level before clamping is `top` + 0.9, so the fast rounding reaches
/// all of them; lanes of nothing divide by zero, and the caller drops their results.
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
