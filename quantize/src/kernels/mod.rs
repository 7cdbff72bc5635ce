//! Quantizes f32 rows to blocks: the same bytes as ggml's quantizers, several times faster.
//!
//! ggml quantizes one sub-block after another, although they are independent. Here sixteen blocks are quantized side by
//! side, one per SIMD lane. Every lane does ggml's arithmetic in ggml's order: IEEE multiplication and addition, never
//! fused, never reordered. So on x86-64 the bytes equal ggml's for every instruction set (`fearless_simd` chooses it at
//! run time, without `unsafe` here). On other architectures the compiler may fuse ggml's products, unless ggml is built
//! as in `vendor/cmake`.
//!
//! | file | contents |
//! |---|---|
//! | `lanes` | groups of blocks, transposition, rounding |
//! | `search_scale_min` | search for a scale and a minimum (q2_K, q4_K, q5_K; q4_1 and q5_1 with an imatrix) |
//! | `search_scale` | search for a scale (q6_K; q3_K, q4_0 and q5_0 with an imatrix) |
//! | `superblock_scales` | fit of the scales of a super-block with an imatrix |
//! | `legacy`, `legacy_imatrix` | q8_0, q4_0, q4_1, q5_0, q5_1 without and with an imatrix |
//! | `q2`, `q3`, `q4_q5`, `q6`, `iq4`, `f16` | one family of formats each |
//!
//! f32 and bf16 have no kernel here: ggml's code for them is limited by the memory only. NaN and infinity, which
//! `convert/` rejects, give meaningless blocks that can differ from ggml's.

mod f16;
mod iq4;
mod lanes;
mod legacy;
mod legacy_imatrix;
mod q2;
mod q3;
mod q4_q5;
mod q6;
mod search_scale;
mod search_scale_min;
mod superblock_scales;

use fearless_simd::{Level, Simd, dispatch};
use llama_ext::{Error, GgmlType};

/// Quantizes `src` (rows × `n_per_row` f32, row by row) to the type `to` into `dst` (rows × [`GgmlType::row_bytes`]
/// bytes). `importance` (`n_per_row` values, the same for every row) weights the squared error of each column. The
/// blocks are those of ggml's `quantize_*` functions (ggml-quants.c).
///
/// # Errors
/// [`Error::Block`] or [`Error::Length`] when the lengths do not match each other, [`Error::Type`] when the type needs
/// an importance matrix and `importance` is `None`, or cannot be quantized.
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

/// Like [`quantize`], but with ggml's code: slower, same bytes.
///
/// # Errors
/// Those of [`quantize`].
pub fn reference(
    to: GgmlType,
    src: &[f32],
    n_per_row: usize,
    importance: Option<&[f32]>,
    dst: &mut [u8],
) -> Result<(), Error> {
    llama_ext::quantize_rows(to, src, n_per_row, importance, dst)
}

/// Quantizes with the kernels of this module; returns false if it has no kernel for the type.
#[inline(always)]
fn ours<S: Simd>(simd: S, to: GgmlType, src: &[f32], importance: Option<&[f32]>, dst: &mut [u8]) -> bool {
    match (to, importance) {
        (GgmlType::F16, _) => f16::f16(src, dst),
        (GgmlType::Q8_0, _) => legacy::q8_0(simd, src, dst),
        (GgmlType::Q4_0, None) => legacy::q4_0(simd, src, dst),
        (GgmlType::Q4_1, None) => legacy::q4_1(simd, src, dst),
        (GgmlType::Q5_0, None) => legacy::q5_0(simd, src, dst),
        (GgmlType::Q5_1, None) => legacy::q5_1(simd, src, dst),
        (GgmlType::Q4_0, Some(importance)) => legacy_imatrix::q4_0(simd, src, importance, dst),
        (GgmlType::Q4_1, Some(importance)) => legacy_imatrix::q4_1(simd, src, importance, dst),
        (GgmlType::Q5_0, Some(importance)) => legacy_imatrix::q5_0(simd, src, importance, dst),
        (GgmlType::Q5_1, Some(importance)) => legacy_imatrix::q5_1(simd, src, importance, dst),
        (GgmlType::Q4_K, _) => q4_q5::q4_k(simd, src, importance, dst),
        (GgmlType::Q5_K, _) => q4_q5::q5_k(simd, src, importance, dst),
        (GgmlType::Q6_K, _) => q6::q6_k(simd, src, importance, dst),
        (GgmlType::IQ4_NL, _) => iq4::iq4_nl(simd, src, importance, dst),
        (GgmlType::IQ4_XS, _) => iq4::iq4_xs(simd, src, importance, dst),
        (GgmlType::Q3_K, _) => q3::q3_k(simd, src, importance, dst),
        (GgmlType::Q2_K, _) => q2::q2_k(simd, src, importance, dst),
        _ => return false,
    }
    true
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    #![allow(clippy::expect_used, reason = "a test stops at the first surprise")]

    use super::{ours, reference};
    use fearless_simd::{Level, Simd};
    use llama_ext::GgmlType;

    /// Returns pseudo-random weights. Each run of 256 has its own magnitude, and one weight in 97 is an outlier.
    fn weights(n: usize) -> Vec<f32> {
        let mut state = 12345u32;
        let one = |i: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let v = (state >> 8) as f32 / 8_388_608.0 - 1.0;
            v * 10f32.powi((i / 256 % 50) as i32 - 40) * if i.is_multiple_of(97) { 8.0 } else { 1.0 }
        };
        (0..n).map(one).collect()
    }

    fn assert_same_as_ggml<S: Simd>(simd: S, name: &str) {
        let n_per_row = 256 * 5;
        let src = weights(n_per_row * 41);
        let importance: Vec<f32> = weights(n_per_row).iter().map(|v| v.abs()).collect();
        for to in GgmlType::ALL {
            for importance in [None, Some(importance.as_slice())] {
                let bytes = 41 * to.row_bytes(n_per_row).expect("whole blocks");
                let (mut a, mut b) = (vec![0; bytes], vec![0; bytes]);
                reference(to, &src, n_per_row, importance, &mut b).expect("quantized");
                if ours(simd, to, &src, importance, &mut a) {
                    assert!(a == b, "{name}: {to}, importance: {}", importance.is_some());
                }
            }
        }
    }

    /// Forces the vector width of each instruction set. The compiler may still use any instruction that the build
    /// allows.
    #[test]
    fn every_instruction_set_gives_the_same_bytes() {
        let level = Level::new();
        assert_same_as_ggml(level.as_sse2().expect("x86-64 has it"), "SSE2");
        if let Some(simd) = level.as_sse4_2() {
            assert_same_as_ggml(simd, "SSE4.2");
        }
        if let Some(simd) = level.as_avx2() {
            assert_same_as_ggml(simd, "AVX2");
        }
        if let Some(simd) = level.as_avx512() {
            assert_same_as_ggml(simd, "AVX-512");
        }
    }
}
