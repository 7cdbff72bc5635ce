//! Converts BF16 and F16 to f32. Blocks of quantized weights are converted in `quantize_rows.rs`.

use crate::Error;

/// Converts BF16 (little-endian) to f32: a BF16 value is the upper half of an f32.
///
/// # Errors
/// [`Error::Length`] unless `src` has two bytes for each value of `dst`.
pub fn bf16_to_f32(src: &[u8], dst: &mut [f32]) -> Result<(), Error> {
    Error::check_length("source", src.len(), dst.len() * 2)?;
    for (value, bytes) in dst.iter_mut().zip(src.chunks_exact(2)) {
        *value = f32::from_bits(u32::from(u16::from_le_bytes([bytes[0], bytes[1]])) << 16);
    }
    Ok(())
}

/// Converts IEEE half precision (little-endian) to f32. The conversion is exact.
///
/// # Errors
/// [`Error::Length`] unless `src` has two bytes for each value of `dst`.
pub fn f16_to_f32(src: &[u8], dst: &mut [f32]) -> Result<(), Error> {
    Error::check_length("source", src.len(), dst.len() * 2)?;
    for (value, bytes) in dst.iter_mut().zip(src.chunks_exact(2)) {
        *value = half_to_f32(u16::from_le_bytes([bytes[0], bytes[1]]));
    }
    Ok(())
}

/// Has no branch and no table, so that the compiler vectorizes the loop around it.
fn half_to_f32(half: u16) -> f32 {
    let sign = u32::from(half & 0x8000) << 16;
    let magnitude = u32::from(half & 0x7fff);
    // The multiplication adds 112, the difference of the exponent biases; it is exact for subnormal halves too.
    let finite = f32::from_bits(magnitude << 13) * f32::from_bits((127 + 112) << 23);
    // Exponent bits of infinity and NaN.
    let special = if magnitude >= 0x7c00 { f32::INFINITY.to_bits() } else { 0 };
    f32::from_bits(finite.to_bits() | special | sign)
}

#[cfg(test)]
mod tests {
    use super::{bf16_to_f32, f16_to_f32};
    use crate::Error;

    #[test]
    fn converts_every_half_as_ggml_does() -> Result<(), Error> {
        for half in 0..=u16::MAX {
            let mut ours = [0.0];
            f16_to_f32(&half.to_le_bytes(), &mut ours)?;
            // SAFETY: takes and returns a number.
            let theirs = unsafe { llama_cpp_sys_2::ggml_fp16_to_fp32(half) };
            assert!(ours[0].to_bits() == theirs.to_bits() || ours[0].is_nan() && theirs.is_nan(), "{half:#06x}");
        }
        Ok(())
    }

    #[test]
    fn half_formats_are_exact() -> Result<(), Error> {
        let mut out = [0.0; 3];
        bf16_to_f32(&[0x80, 0x3f, 0x00, 0xc0, 0x00, 0x00], &mut out)?;
        assert_eq!(out, [1.0, -2.0, 0.0]);
        f16_to_f32(&[0x00, 0x3c, 0x00, 0xc0, 0x01, 0x00], &mut out)?;
        assert_eq!(out, [1.0, -2.0, 5.960_464_5e-8]);
        Ok(())
    }
}
