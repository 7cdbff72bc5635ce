//! Quantizes rows of f32 weights to any storage type with ggml's quantizers, and converts every storage type to f32.

use crate::half_floats::{bf16_to_f32, f16_to_f32};
use crate::{Error, GgmlType, blocks};
use llama_cpp_sys_2 as sys;

/// Quantizes `src` (rows × `n_per_row` f32, row by row) into `dst` (rows × [`GgmlType::row_bytes`] bytes).
///
/// `importance` weights the error of each column (`n_per_row` values, the same for every row). Rows are independent of
/// each other: several threads may quantize different rows at once.
///
/// # Errors
/// [`Error::Length`] or [`Error::Block`] when the lengths do not match each other, [`Error::Type`] when the type needs
/// an importance matrix and `importance` is `None`.
pub fn quantize_rows(
    to: GgmlType,
    src: &[f32],
    n_per_row: usize,
    importance: Option<&[f32]>,
    dst: &mut [u8],
) -> Result<(), Error> {
    let row_bytes = to.row_bytes(n_per_row)?;
    let rows = src.len() / n_per_row;
    Error::check_length("source", src.len(), rows * n_per_row)?;
    Error::check_length("destination", dst.len(), rows * row_bytes)?;
    if let Some(weights) = importance {
        Error::check_length("importance", weights.len(), n_per_row)?;
    }
    // SAFETY: a table look-up by an id that is in the table.
    if importance.is_none() && unsafe { sys::ggml_quantize_requires_imatrix(to.id()) } {
        return Err(Error::Type { type_name: to.name(), why: "needs an importance matrix" });
    }
    if !is_aligned(dst) {
        let mut words = aligned(dst);
        let result = quantize_rows(to, src, n_per_row, importance, bytes_of(&mut words, dst.len()));
        dst.copy_from_slice(bytes_of(&mut words, dst.len()));
        return result;
    }
    let weights = importance.map_or(std::ptr::null(), <[f32]>::as_ptr);
    // SAFETY: source, destination and importance have exactly the lengths that `rows` rows of whole blocks need, and
    // the destination has the alignment of blocks (both checked above). The row counts come from slice lengths, so they
    // fit in i64. ggml documents the call as thread-safe.
    let written = unsafe {
        sys::ggml_quantize_chunk(
            to.id(),
            src.as_ptr(),
            dst.as_mut_ptr().cast(),
            0,
            rows as i64,
            n_per_row as i64,
            weights,
        )
    };
    Error::check_length("written", written, dst.len())
}

/// Converts `src` (whole rows of `from`) to f32.
///
/// # Errors
/// [`Error::Length`] when `src` has not exactly the blocks that `dst` needs, [`Error::Type`] when the type cannot be
/// converted.
pub fn to_f32(from: GgmlType, src: &[u8], dst: &mut [f32]) -> Result<(), Error> {
    if dst.is_empty() {
        return Error::check_length("source", src.len(), 0);
    }
    Error::check_length("source", src.len(), from.row_bytes(dst.len())?)?;
    match from {
        GgmlType::F32 => {
            for (value, bytes) in dst.iter_mut().zip(src.chunks_exact(4)) {
                *value = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
            Ok(())
        }
        GgmlType::F16 => f16_to_f32(src, dst),
        GgmlType::BF16 => bf16_to_f32(src, dst),
        other if blocks::to_f32_without_ggml(other, src, dst) => Ok(()),
        _ => {
            // SAFETY: the id is in the table, whose entries live until the process ends.
            let Some(convert) = (unsafe { (*sys::ggml_get_type_traits(from.id())).to_float }) else {
                return Err(Error::Type { type_name: from.name(), why: "cannot be read back" });
            };
            if !is_aligned(src) {
                return to_f32(from, bytes_of(&mut aligned(src), src.len()), dst);
            }
            // SAFETY: `src` has exactly the blocks of `dst.len()` weights, and the alignment of blocks (both checked
            // above).
            unsafe { convert(src.as_ptr().cast(), dst.as_mut_ptr(), dst.len() as i64) };
            Ok(())
        }
    }
}

/// Returns whether `data` consists of whole blocks with finite scales.
#[must_use]
pub fn is_valid(kind: GgmlType, data: &[u8]) -> bool {
    data.len().is_multiple_of(kind.block_bytes()) && blocks::first_bad(kind, data).is_none()
}

/// Alignment of blocks in bytes: their widest members are 32-bit words.
const ALIGNMENT: usize = 4;

fn is_aligned(bytes: &[u8]) -> bool {
    bytes.as_ptr().align_offset(ALIGNMENT) == 0
}

/// Copies the bytes to aligned memory; pads them to whole words.
fn aligned(bytes: &[u8]) -> Vec<u32> {
    let word = |part: &[u8]| {
        let mut word = [0; ALIGNMENT];
        word[..part.len()].copy_from_slice(part);
        u32::from_ne_bytes(word)
    };
    bytes.chunks(ALIGNMENT).map(word).collect()
}

/// Returns the first `len` bytes of `words`, which has at least that many.
fn bytes_of(words: &mut [u32], len: usize) -> &mut [u8] {
    // SAFETY: every bit pattern is a valid `u8`, and the bytes lie within the words.
    let (_, bytes, _) = unsafe { words.align_to_mut::<u8>() };
    &mut bytes[..len]
}

#[cfg(test)]
mod tests {
    use super::{is_valid, quantize_rows, to_f32};
    use crate::{Error, GgmlType};

    fn wave(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 37 % 101) as f32 / 50.5 - 1.0) * 0.05).collect()
    }

    #[test]
    fn a_round_trip_through_every_type_stays_close() -> Result<(), Error> {
        let src = wave(4 * 512);
        for to in GgmlType::ALL {
            let mut packed = vec![0; 4 * to.row_bytes(512)?];
            quantize_rows(to, &src, 512, None, &mut packed)?;
            assert!(is_valid(to, &packed), "{to}");
            let mut back = vec![0.0; src.len()];
            to_f32(to, &packed, &mut back)?;
            let worst = src.iter().zip(&back).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            // The coarsest grid (2 bits) over ±0.05 has steps of about 0.033.
            assert!(worst < 0.03, "{to}: {worst}");
        }
        Ok(())
    }

    #[test]
    fn unaligned_blocks_give_the_same_result() -> Result<(), Error> {
        let src = wave(512);
        for to in GgmlType::ALL {
            let n = to.row_bytes(512)?;
            let mut bytes = vec![0; n + 8];
            let mut wanted = vec![0; n];
            quantize_rows(to, &src, 512, None, &mut wanted)?;
            for at in 0..8 {
                bytes.fill(0);
                quantize_rows(to, &src, 512, None, &mut bytes[at..at + n])?;
                assert!(bytes[at..at + n] == wanted && is_valid(to, &bytes[at..at + n]), "{to} at {at}");
                let (mut a, mut b) = ([0.0; 512], [0.0; 512]);
                to_f32(to, &bytes[at..at + n], &mut a)?;
                to_f32(to, &wanted, &mut b)?;
                assert_eq!(a, b, "{to} at {at}");
            }
        }
        Ok(())
    }

    #[test]
    fn importance_weights_change_the_blocks() -> Result<(), Error> {
        let src = wave(256);
        let weights: Vec<f32> = (0..256).map(|i| if i % 2 == 0 { 100.0 } else { 0.01 }).collect();
        let (mut plain, mut weighted) = (vec![0; 144], vec![0; 144]);
        quantize_rows(GgmlType::Q4_K, &src, 256, None, &mut plain)?;
        quantize_rows(GgmlType::Q4_K, &src, 256, Some(&weights), &mut weighted)?;
        assert_ne!(plain, weighted);
        Ok(())
    }

    #[test]
    fn rejects_wrong_lengths_before_the_call() {
        let src = wave(512);
        assert!(matches!(quantize_rows(GgmlType::Q4_K, &src, 256, None, &mut [0; 100]), Err(Error::Length { .. })));
        assert!(matches!(quantize_rows(GgmlType::Q4_K, &src, 100, None, &mut [0; 720]), Err(Error::Block { .. })));
        assert!(quantize_rows(GgmlType::Q4_K, &src, 256, Some(&[1.0; 3]), &mut [0; 288]).is_err());
        assert!(to_f32(GgmlType::Q8_0, &[0; 33], &mut [0.0; 32]).is_err());
    }
}
