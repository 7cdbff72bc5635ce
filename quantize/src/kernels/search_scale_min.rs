//! Search for the scale and the minimum with the least weighted error (q2_K, q4_K, q5_K; q4_1 and q5_1 with an
//! imatrix), for one sub-block of every lane. The callers store them.
//!
//! As in ggml, the best minimum so far influences the candidates of later steps. All sums have ggml's order too,
//! because another order would change some blocks.

use super::lanes::{Lanes, ROUNDED_UP_TO, nearest, nearest_int, rounded};
use fearless_simd::prelude::*;
use fearless_simd::{Simd, i32x16};

/// The candidates: grids of `top` + 1 levels with the inverse scales (`from` + `by` × step + `top`) / range.
#[derive(Clone, Copy)]
pub(super) struct Search {
    pub(super) top: f32,
    pub(super) from: f32,
    pub(super) by: f32,
    pub(super) steps: u8,
    /// Whether the error is the absolute difference; otherwise it is its square.
    pub(super) distance: bool,
    /// Whether out-of-range levels saturate after the first grid (ggml's search with an imatrix) instead of wrapping.
    pub(super) saturate: bool,
}

/// The best grid of one sub-block in each lane.
#[derive(Clone, Copy)]
pub(super) struct Best<S: Simd> {
    pub(super) scale: Lanes<S>,
    /// The negated value of the lowest level, as it is stored.
    pub(super) min: Lanes<S>,
    /// The levels of the best grid are `inverse` × (weight − `base`); they are used when the stored scale is zero.
    inverse: Lanes<S>,
    base: Lanes<S>,
    /// 1 in lanes where a step has a smaller error than the first grid, else 0.
    stepped: Lanes<S>,
}

impl<S: Simd> Best<S> {
    #[inline(always)]
    pub(super) fn none(simd: S) -> Self {
        let zero = Lanes::splat(simd, 0.0);
        Self { scale: zero, min: zero, inverse: zero, base: zero, stepped: zero }
    }

    /// Writes the levels of the search for one lane. Like ggml, the callers use them where the stored scale rounds to
    /// zero.
    #[inline(always)]
    pub(super) fn levels(&self, search: Search, lane: usize, weights: &[f32], levels: &mut [u8]) {
        let (inverse, base) = (self.inverse[lane], self.base[lane]);
        let saturate = search.saturate && self.stepped[lane] != 0.0;
        for (level, x) in levels.iter_mut().zip(weights) {
            let v = inverse * (x - base);
            let whole = if !saturate {
                nearest_int(v)
            } else if v > 0.0 {
                nearest_int(if v < search.top { v } else { search.top })
            } else {
                0
            };
            *level = whole.clamp(0, search.top as i32) as u8;
        }
    }
}

/// The sums over the levels of a grid for the least-squares fit.
#[derive(Clone, Copy)]
struct FitSums<S: Simd> {
    l: Lanes<S>,
    l2: Lanes<S>,
    xl: Lanes<S>,
}

/// Finds the best grid for weights `x` with importance `w`.
#[inline(always)]
pub(super) fn search<S: Simd, const N: usize>(
    simd: S,
    x: &[Lanes<S>; N],
    w: &[Lanes<S>; N],
    search: Search,
) -> Best<S> {
    let zero = Lanes::splat(simd, 0.0);
    let (mut low, mut high) = (x[0], x[0]);
    let (mut sum_w, mut sum_x) = (w[0], w[0] * x[0]);
    for (&x, &w) in x.iter().zip(w).skip(1) {
        low = x.simd_lt(low).select(x, low);
        high = x.simd_gt(high).select(x, high);
        sum_w += w;
        sum_x += w * x;
    }
    let mut min = low.simd_gt(zero).select(zero, low);
    let flat = high.simd_le(min);
    let mut inverse = search.top / (high - min);
    let mut scale = 1.0 / inverse;
    let mut best = Best { scale, min, inverse, base: min, stepped: zero };

    let mut levels = [zero; N];
    let in_range = within(low, high, min, inverse);
    sums(x, w, &mut levels, min, inverse, search, if in_range { Beyond::Never } else { Beyond::Wraps });
    let mut best_error = error(x, w, &levels, scale, min, search.distance);

    for step in 0..=search.steps {
        inverse = (search.from + search.by * f32::from(step) + search.top) / (high - min);
        let beyond = if within(low, high, min, inverse) {
            Beyond::Never
        } else if search.saturate {
            Beyond::Saturates
        } else {
            Beyond::Wraps
        };
        let sum = sums(x, w, &mut levels, min, inverse, search, beyond);
        let d = sum_w * sum.l2 - sum.l * sum.l;
        let mut step_scale = (sum_w * sum.xl - sum_x * sum.l) / d;
        let mut step_min = (sum.l2 * sum_x - sum.l * sum.xl) / d;
        let above = step_min.simd_gt(zero);
        if above.any_true() {
            step_min = above.select(zero, step_min);
            step_scale = above.select(sum.xl / sum.l2, step_scale);
        }
        let error = error(x, w, &levels, step_scale, step_min, search.distance);
        let better = d.simd_gt(zero) & error.simd_lt(best_error);
        best.inverse = better.select(inverse, best.inverse);
        best.base = better.select(min, best.base);
        best.stepped = better.select(Lanes::splat(simd, 1.0), best.stepped);
        best_error = better.select(error, best_error);
        scale = better.select(step_scale, scale);
        min = better.select(step_min, min);
    }
    // a sub-block of equal non-positive weights has no grid: all levels are zero
    best.scale = flat.select(zero, scale);
    best.min = -flat.select(low, min);
    best.inverse = flat.select(zero, best.inverse);
    best
}

/// The treatment of values outside the range of rounding by addition.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beyond {
    /// There are none. This is the normal case: only huge or denormal weights lead to the others.
    Never,
    Wraps,
    Saturates,
}

/// Whether all weights of all lanes are in the range of the fast rounding; false for NaN. Multiplication and
/// subtraction are monotone, so it is sufficient to check the lowest and the highest weight.
#[inline(always)]
fn within<S: Simd>(low: Lanes<S>, high: Lanes<S>, min: Lanes<S>, inverse: Lanes<S>) -> bool {
    let ends =
        (inverse * (low - min)).abs().simd_le(ROUNDED_UP_TO) & (inverse * (high - min)).abs().simd_le(ROUNDED_UP_TO);
    ends.all_true()
}

#[inline(always)]
fn sums<S: Simd, const N: usize>(
    x: &[Lanes<S>; N],
    w: &[Lanes<S>; N],
    levels: &mut [Lanes<S>; N],
    min: Lanes<S>,
    inverse: Lanes<S>,
    search: Search,
    beyond: Beyond,
) -> FitSums<S> {
    match beyond {
        Beyond::Never => sums_of(x, w, levels, |x| rounded(inverse * (x - min)).max(0.0).min(search.top)),
        Beyond::Wraps => sums_of(x, w, levels, |x| {
            let whole: i32x16<S> = nearest(inverse * (x - min)).max(0).min(search.top as i32);
            whole.to_float()
        }),
        Beyond::Saturates => sums_of(x, w, levels, |x| {
            let v = inverse * (x - min);
            let v = v.simd_gt(0.0).select(v, Lanes::splat(v.simd, 0.0));
            let v = v.simd_lt(search.top).select(v, Lanes::splat(v.simd, search.top));
            rounded(v)
        }),
    }
}

#[inline(always)]
fn sums_of<S: Simd, const N: usize>(
    x: &[Lanes<S>; N],
    w: &[Lanes<S>; N],
    levels: &mut [Lanes<S>; N],
    level: impl Fn(Lanes<S>) -> Lanes<S>,
) -> FitSums<S> {
    let zero = Lanes::splat(x[0].simd, 0.0);
    let mut sum = FitSums { l: zero, l2: zero, xl: zero };
    for i in 0..N {
        let l = level(x[i]);
        levels[i] = l;
        let wl = w[i] * l;
        sum.l += wl;
        sum.l2 += wl * l;
        sum.xl += wl * x[i];
    }
    sum
}

#[inline(always)]
fn error<S: Simd, const N: usize>(
    x: &[Lanes<S>; N],
    w: &[Lanes<S>; N],
    levels: &[Lanes<S>; N],
    scale: Lanes<S>,
    min: Lanes<S>,
    distance: bool,
) -> Lanes<S> {
    let mut sum = Lanes::splat(scale.simd, 0.0);
    for i in 0..N {
        let diff = scale * levels[i] + min - x[i];
        sum += w[i] * if distance { diff.abs() } else { diff * diff };
    }
    sum
}
