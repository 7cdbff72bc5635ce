//! f32 rows to quantized blocks: the same bytes as ggml's own quantizers, several times faster.
//!
//! ggml works on one sub-block after another although they do not depend on each other. Here sixteen blocks go side by
//! side, one in each lane of a vector, and every lane does ggml's own arithmetic in ggml's own order: IEEE multiplication
//! and addition, never fused, never reordered. So the bytes are equal to those of ggml on baseline x86-64, whatever the
//! instruction set, which is chosen when the program runs (`fearless_simd`, which needs no `unsafe` of ours).
//!
//! | file | what |
//! |---|---|
//! | `lanes` | groups of blocks, transposition, rounding |
//! | `affine` | the search for a scale and a minimum |
//! | `scales` | the fit of a super-block's scales under importance weights |
//! | `q4_q5` | one module a family: block layout around a search |
//!
//! Types without a kernel here go to ggml. Values are checked elsewhere: NaN and infinities make meaningless blocks.

mod affine;
mod basic;
mod iq4;
mod lanes;
mod q2;
mod q3;
mod q4_q5;
mod q6;
mod scales;
mod signed;

use fearless_simd::{Level, Simd, dispatch};
use llama_ext::{Error, GgmlType};

/// Quantizes whole rows of `n_per_row` weights into `dst`; `importance` weighs the error of each column.
///
/// # Errors
/// Those of [`reference`].
pub fn quantize(
    to: GgmlType,
    src: &[f32],
    n_per_row: usize,
    importance: Option<&[f32]>,
    dst: &mut [u8],
) -> Result<(), Error> {
    let whole_rows = to.row_bytes(n_per_row)?.checked_mul(src.len() / n_per_row) == Some(dst.len())
        && src.len().is_multiple_of(n_per_row)
        && importance.is_none_or(|values| values.len() == n_per_row);
    if whole_rows && dispatch!(Level::new(), simd => ours(simd, to, src, importance, dst)) {
        return Ok(());
    }
    reference(to, src, n_per_row, importance, dst)
}

/// [`quantize`] by ggml's own code.
///
/// # Errors
/// [`Error`] when the lengths do not fit together.
pub fn reference(
    to: GgmlType,
    src: &[f32],
    n_per_row: usize,
    importance: Option<&[f32]>,
    dst: &mut [u8],
) -> Result<(), Error> {
    llama_ext::quantize_rows(to, src, n_per_row, importance, dst)
}

/// Quantizes with the kernels of this module; false when there is none for the type.
#[inline(always)]
fn ours<S: Simd>(simd: S, to: GgmlType, src: &[f32], importance: Option<&[f32]>, dst: &mut [u8]) -> bool {
    match to {
        GgmlType::Q8_0 => basic::q8_0(simd, src, dst),
        GgmlType::Q4_0 if importance.is_none() => basic::q4_0(simd, src, dst),
        GgmlType::Q4_1 if importance.is_none() => basic::q4_1(simd, src, dst),
        GgmlType::Q5_0 if importance.is_none() => basic::q5_0(simd, src, dst),
        GgmlType::Q5_1 if importance.is_none() => basic::q5_1(simd, src, dst),
        GgmlType::Q4_K => q4_q5::q4_k(simd, src, importance, dst),
        GgmlType::Q5_K => q4_q5::q5_k(simd, src, importance, dst),
        GgmlType::Q6_K => q6::q6_k(simd, src, importance, dst),
        GgmlType::IQ4_NL => iq4::iq4_nl(simd, src, importance, dst),
        GgmlType::IQ4_XS => iq4::iq4_xs(simd, src, importance, dst),
        GgmlType::Q3_K => q3::q3_k(simd, src, importance, dst),
        GgmlType::Q2_K => q2::q2_k(simd, src, importance, dst),
        _ => return false,
    }
    true
}
