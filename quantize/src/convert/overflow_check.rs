//! Finds weights that were lost in quantization. The largest f16 is 65504, so a large weight, or the scale of its
//! block, can become infinite. A very large weight can also overflow the quantizers' sums of squares, which gives a
//! scale of zero. llama-quantize only checks the scales of finished tensors (`ggml_validate_row_data`).

use llama_ext::{GgmlType, blocks};
use std::ops::Range;

/// A magnitude that no weight of a real model reaches. Only blocks with larger weights are dequantized and compared.
/// With smaller weights, no sum in a quantizer can overflow ([`crate::Imatrix`] limits the importance, the other
/// factor).
const LARGE: f32 = 1e4;

/// Quantized rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QuantizedRows<'a> {
    pub(crate) ggml_type: GgmlType,
    pub(crate) bytes: &'a [u8],
    pub(crate) n_per_row: usize,
    pub(crate) importance: Option<&'a [f32]>,
}

/// Returns the index of a weight in `weights` that `quantized` has lost: the largest weight of the bad block or, if
/// that is small, of its row, because some quantizers sum over the row. `largest` is the largest magnitude in
/// `weights`.
pub(crate) fn find_lost(quantized: &QuantizedRows<'_>, weights: &[f32], largest: f32) -> Option<usize> {
    let size = quantized.ggml_type.block_size();
    let block = bad_scale(quantized.ggml_type, quantized.bytes)
        .or_else(|| if largest < LARGE { None } else { worse_than_zeros(quantized, weights) })?;
    let columns = quantized.n_per_row.max(1);
    let row = block * size / columns * columns;
    let largest_in = |places: Range<usize>| {
        let places = places.filter(|at| *at < weights.len());
        places.max_by(|a, b| weights[*a].abs().total_cmp(&weights[*b].abs()))
    };
    let in_block = largest_in(block * size..(block + 1) * size)?;
    if size == 1 || weights[in_block].abs() >= LARGE { Some(in_block) } else { largest_in(row..row + columns) }
}

/// Returns the first block with a NaN or infinite scale.
fn bad_scale(ggml_type: GgmlType, bytes: &[u8]) -> Option<usize> {
    let exponent: u16 = match ggml_type {
        GgmlType::F32 => return None,
        GgmlType::F16 => 0x7c00,
        GgmlType::BF16 => 0x7f80,
        _ => return blocks::first_bad(ggml_type, bytes),
    };
    let is_bad = |half: [u8; 2]| u16::from_le_bytes(half) & exponent == exponent;
    // no early exit: this way it works at memory speed
    let halves = bytes.as_chunks::<2>().0;
    let any = halves.iter().fold(false, |any, half| any | is_bad(*half));
    if any { halves.iter().position(|half| is_bad(*half)) } else { None }
}

/// Returns the first block with large weights whose error is at least as large as that of a block of zeros.
fn worse_than_zeros(quantized: &QuantizedRows<'_>, weights: &[f32]) -> Option<usize> {
    let size = quantized.ggml_type.block_size();
    if size == 1 {
        return None;
    }
    let blocks = weights.chunks_exact(size).zip(quantized.bytes.chunks_exact(quantized.ggml_type.block_bytes()));
    let mut back = vec![0.0; size];
    blocks.enumerate().find_map(|(number, (block, bytes))| {
        if block.iter().all(|w| w.abs() < LARGE) {
            return None;
        }
        let read = llama_ext::to_f32(quantized.ggml_type, bytes, &mut back);
        let first = number * size % quantized.n_per_row.max(1);
        let weight = |i: usize| quantized.importance.map_or(1.0, |all| f64::from(all[(first + i) % all.len().max(1)]));
        let (mut error, mut all) = (0.0, 0.0);
        for (i, (a, b)) in back.iter().zip(block).enumerate() {
            let (a, b) = (f64::from(*a), f64::from(*b));
            error += weight(i) * (a - b) * (a - b);
            all += weight(i) * b * b;
        }
        // `all` is zero where the importance is zero: nothing is lost there unless the error is NaN
        let near = error < all || (all == 0.0 && error == 0.0);
        (read.is_err() || !near).then_some(number)
    })
}

#[cfg(test)]
mod tests {
    use super::{QuantizedRows, bad_scale, find_lost};
    use crate::kernels;
    use llama_ext::GgmlType;

    fn wave(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 37 % 101) as f32 / 50.5 - 1.0) * 0.05).collect()
    }

    #[test]
    fn finds_infinity_and_nan_anywhere_in_half_floats() {
        for (ggml_type, specials) in [
            (GgmlType::F16, [[0x00, 0x7c], [0x00, 0xfc], [0x01, 0x7e]]),
            (GgmlType::BF16, [[0x80, 0x7f], [0x80, 0xff], [0xc0, 0x7f]]),
        ] {
            let mut good = vec![0; 512];
            kernels::quantize(ggml_type, &wave(256), 256, None, &mut good).unwrap();
            assert_eq!(bad_scale(ggml_type, &good), None, "{ggml_type}");
            for (at, special) in (0..256).flat_map(|at| specials.map(|special| (at, special))) {
                let mut bytes = good.clone();
                bytes[2 * at..2 * at + 2].copy_from_slice(&special);
                assert_eq!(bad_scale(ggml_type, &bytes), Some(at), "{ggml_type}: {special:?}");
            }
        }
    }

    /// Single weights, and whole blocks of weights, that only F32 and BF16 can represent.
    #[test]
    fn finds_lost_weights_in_every_type_with_both_kernels() {
        let importance: Vec<f32> = wave(256).iter().map(|w| w.abs() + 0.01).collect();
        let wide = [GgmlType::F32, GgmlType::BF16];
        for ggml_type in GgmlType::ALL.into_iter().filter(|ggml_type| !wide.contains(ggml_type)) {
            for value in [1e9_f32, -1e10, 1e15, 1e19, -1e20, 1e25, 1e30, 1e37, f32::MAX, f32::MIN] {
                for many in [1, 16, 256] {
                    let mut weights = wave(1024);
                    weights[600 - many.min(88)..][..many].fill(value);
                    for importance in [None, Some(&importance[..])] {
                        for kernel in [kernels::quantize, kernels::reference] {
                            let mut bytes = vec![0; 4 * ggml_type.row_bytes(256).unwrap()];
                            kernel(ggml_type, &weights, 256, importance, &mut bytes).unwrap();
                            let quantized = QuantizedRows { ggml_type, bytes: &bytes, n_per_row: 256, importance };
                            let at = find_lost(&quantized, &weights, value.abs());
                            assert_eq!(at.map(|at| weights[at]), Some(value), "{ggml_type}, {many} of {value:e}");
                        }
                    }
                }
            }
        }
    }

    /// `f32::MAX` rounds up to a number beyond BF16's largest exponent.
    #[test]
    fn the_largest_floats_are_too_large_for_bf16() {
        let mut weights = wave(256);
        weights[9] = f32::MAX;
        let mut bytes = vec![0; 512];
        kernels::quantize(GgmlType::BF16, &weights, 256, None, &mut bytes).unwrap();
        let quantized = QuantizedRows { ggml_type: GgmlType::BF16, bytes: &bytes, n_per_row: 256, importance: None };
        assert_eq!(find_lost(&quantized, &weights, f32::MAX), Some(9));
    }

    #[test]
    fn accepts_weights_that_the_type_can_represent() {
        for ggml_type in GgmlType::ALL {
            for value in [0.0_f32, 1.0, 9e3, -2e4, 6.5e4, -6.55e4] {
                for many in [1, 3, 16, 256] {
                    let mut weights = wave(1024);
                    weights[300..300 + many].fill(value);
                    let mut bytes = vec![0; 4 * ggml_type.row_bytes(256).unwrap()];
                    kernels::quantize(ggml_type, &weights, 256, None, &mut bytes).unwrap();
                    let quantized = QuantizedRows { ggml_type, bytes: &bytes, n_per_row: 256, importance: None };
                    let largest = weights.iter().fold(0.0, |most: f32, w| most.max(w.abs()));
                    assert_eq!(find_lost(&quantized, &weights, largest), None, "{ggml_type}, {many} of {value}");
                }
            }
        }
    }
}
