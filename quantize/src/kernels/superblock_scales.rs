//! Fits the scales of a super-block with an imatrix: integers times one factor. A search finds both; then one integer
//! at a time is changed while the error decreases. All lanes are fitted at once, in ggml's order.

use super::lanes::{LANES, Lanes, nearest, rounded};
use fearless_simd::prelude::*;
use fearless_simd::{Simd, i32x16};

/// ggml's constant: if all values are smaller, they count as zero.
pub(super) const GROUP_MAX_EPS: f32 = 1e-15;

/// Integers for `N` sub-blocks (index: sub-block, then lane) and their common factor.
pub(super) struct Fitted<S: Simd, const N: usize> {
    pub(super) factor: Lanes<S>,
    pub(super) numbers: [[u8; LANES]; N],
}

/// Fits `values` (non-negative except for degenerate sub-blocks) by integers up to `top`, with importance `w`.
#[inline(always)]
pub(super) fn fit<S: Simd, const N: usize>(
    simd: S,
    values: &[Lanes<S>; N],
    w: &[Lanes<S>; N],
    top: i32,
) -> Fitted<S, N> {
    let zero = Lanes::splat(simd, 0.0);
    let mut max = zero;
    for &x in values {
        max = max.simd_gt(x).select(max, x);
    }
    let is_tiny = max.simd_lt(GROUP_MAX_EPS);
    let top_f = top as f32;

    let mut inverse = top_f / max;
    let scale = 1.0 / inverse;
    let mut best = zero;
    for (&x, &w) in values.iter().zip(w) {
        // like ggml, do not clamp the first candidate, and use its value after it is stored in a byte
        let diff = x - scale * byte(nearest(inverse * x)).to_float::<Lanes<S>>();
        best += w * diff * diff;
    }
    for step in [-4i8, -3, -2, -1, 1, 2, 3, 4] {
        let step_inverse = (0.1 * f32::from(step) + top_f) / max;
        let step_scale = 1.0 / step_inverse;
        let mut error = zero;
        for (&x, &w) in values.iter().zip(w) {
            let diff = x - step_scale * nearest(step_inverse * x).min(top).to_float::<Lanes<S>>();
            error += w * diff * diff;
        }
        let better = error.simd_lt(best);
        best = better.select(error, best);
        inverse = better.select(step_inverse, inverse);
    }

    let mut numbers = [zero; N];
    let (mut sum_lx, mut sum_l2) = (zero, zero);
    for i in 0..N {
        let whole = nearest(inverse * values[i]).min(top);
        let l: Lanes<S> = whole.to_float();
        numbers[i] = byte(whole).to_float();
        sum_lx += w[i] * values[i] * l;
        sum_l2 += w[i] * l * l;
    }
    // a converged lane stays converged, so all lanes can run until the slowest converges
    for _ in 0..5 {
        let mut changed = false;
        for i in 0..N {
            let (x, w, l) = (values[i], w[i], numbers[i]);
            let wx = w * x;
            let lx = sum_lx - wx * l;
            let l2 = sum_l2 - w * l * l;
            let whole = nearest(x * l2 / lx).min(top);
            let new: Lanes<S> = whole.to_float();
            let new_lx = lx + wx * new;
            let new_l2 = l2 + w * new * new;
            let better = lx.simd_gt(zero)
                & l2.simd_gt(zero)
                & new.simd_ne(l)
                & (new_lx * new_lx * sum_l2).simd_gt(sum_lx * sum_lx * new_l2);
            numbers[i] = better.select(byte(whole).to_float(), l);
            sum_lx = better.select(new_lx, sum_lx);
            sum_l2 = better.select(new_l2, sum_l2);
            changed |= better.any_true();
        }
        if !changed {
            break;
        }
    }
    let factor = sum_l2.simd_gt(zero).select(sum_lx / sum_l2, zero);
    let mut out = [[0; LANES]; N];
    for (out, number) in out.iter_mut().zip(numbers) {
        let number = is_tiny.select(zero, rounded(number));
        for lane in 0..LANES {
            out[lane] = number[lane] as u8;
        }
    }
    Fitted { factor: is_tiny.select(zero, factor), numbers: out }
}

/// Returns the number as ggml's byte stores it: negative numbers wrap.
#[inline(always)]
fn byte<S: Simd>(number: i32x16<S>) -> i32x16<S> {
    number & 0xff
}
