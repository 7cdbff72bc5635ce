//! f16: rounds each weight to nearest, ties to even.

use half::f16;
use half::slice::HalfFloatSliceExt;

/// Weights converted at a time.
const AT_ONCE: usize = 64;

/// Converts any number of weights to f16.
pub(super) fn f16(src: &[f32], dst: &mut [u8]) {
    let mut chunk = [f16::ZERO; AT_ONCE];
    for (src, dst) in src.chunks(AT_ONCE).zip(dst.chunks_mut(2 * AT_ONCE)) {
        let chunk = &mut chunk[..src.len()];
        chunk.convert_from_f32_slice(src);
        for (dst, half) in dst.as_chunks_mut::<2>().0.iter_mut().zip(chunk) {
            *dst = half.to_le_bytes();
        }
    }
}
