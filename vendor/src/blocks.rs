//! The parts of ggml's block layouts (`ggml-common.h` of the pin) that two tasks need: to find blocks whose scale is
//! not finite, and to convert the types for which ggml has no conversion to f32. ggml's own check,
//! `ggml_validate_row_data`, prints to stderr; a test compares the results of both.

use crate::ggml_type::GgmlType;

/// The places and formats of the scales in a block.
enum Scales {
    /// No scales, or scales for which every bit pattern is valid.
    None,
    /// Half floats at these offsets.
    Half(&'static [usize]),
    /// One f32 at offset 0.
    Single,
    /// One f64 at offset 0.
    Double,
    /// An exponent (E8M0) in the first byte; 0xff is NaN.
    Exponent,
    /// One half float, four bits of it in each of four 16-bit words at this offset.
    Spread(usize),
}

const fn scales(kind: GgmlType) -> Scales {
    use GgmlType as T;
    match kind {
        T::F32 | T::Q8_K => Scales::Single,
        T::F64 => Scales::Double,
        T::F16 | T::Q4_0 | T::Q5_0 | T::Q8_0 | T::Q1_0 | T::Q2_0 | T::IQ4_NL | T::IQ4_XS => Scales::Half(&[0]),
        T::IQ1_S | T::IQ2_XXS | T::IQ2_XS | T::IQ2_S | T::IQ3_XXS | T::IQ3_S => Scales::Half(&[0]),
        T::Q4_1 | T::Q5_1 | T::Q8_1 | T::Q4_K | T::Q5_K => Scales::Half(&[0, 2]),
        T::Q2_K => Scales::Half(&[80, 82]),
        T::Q3_K => Scales::Half(&[108]),
        T::Q6_K => Scales::Half(&[208]),
        T::TQ1_0 => Scales::Half(&[52]),
        T::TQ2_0 => Scales::Half(&[64]),
        T::IQ1_M => Scales::Spread(48),
        T::MXFP4 => Scales::Exponent,
        // `first_bad` checks BF16 values themselves; every bit pattern of NVFP4's scales is valid.
        T::BF16 | T::NVFP4 | T::I8 | T::I16 | T::I32 | T::I64 => Scales::None,
    }
}

/// Returns the index of the first block of `data` with a scale that is NaN or infinite; `None` if there is none. `data`
/// consists of whole blocks.
#[must_use]
pub fn first_bad(kind: GgmlType, data: &[u8]) -> Option<usize> {
    let word = |block: &[u8], at: usize| {
        block.get(at..).and_then(<[u8]>::first_chunk::<2>).map_or(0, |bytes| u16::from_le_bytes(*bytes))
    };
    let half_is_bad = |half: u16| half & 0x7c00 == 0x7c00;
    let is_bad = |block: &[u8]| match scales(kind) {
        Scales::None => kind == GgmlType::BF16 && word(block, 0) & 0x7f80 == 0x7f80,
        Scales::Half(places) => places.iter().any(|at| half_is_bad(word(block, *at))),
        Scales::Single => block.first_chunk::<4>().is_some_and(|bytes| !f32::from_le_bytes(*bytes).is_finite()),
        // A number beyond the range of f32 counts as infinite.
        #[allow(clippy::cast_possible_truncation, reason = "the range is what is checked")]
        Scales::Double => block.first_chunk::<8>().is_some_and(|b| !(f64::from_le_bytes(*b) as f32).is_finite()),
        Scales::Exponent => block.first() == Some(&0xff),
        Scales::Spread(at) => {
            let [a, b, c, d] = [0, 2, 4, 6].map(|i| word(block, at + i));
            half_is_bad((a >> 12) | ((b >> 8) & 0x00f0) | ((c >> 4) & 0x0f00) | (d & 0xf000))
        }
    };
    data.chunks_exact(kind.block_bytes()).position(is_bad)
}

/// Converts `src` to f32 if `from` is a type for which ggml has no conversion; returns false for all others. `src` has
/// exactly the blocks of `dst`.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "f32 is enough for comparisons")]
pub(crate) fn to_f32_without_ggml(from: GgmlType, src: &[u8], dst: &mut [f32]) -> bool {
    fn each<const N: usize>(src: &[u8], dst: &mut [f32], number: impl Fn([u8; N]) -> f32) {
        for (value, bytes) in dst.iter_mut().zip(src.as_chunks::<N>().0) {
            *value = number(*bytes);
        }
    }
    match from {
        GgmlType::I8 => each(src, dst, |b| f32::from(i8::from_le_bytes(b))),
        GgmlType::I16 => each(src, dst, |b| f32::from(i16::from_le_bytes(b))),
        GgmlType::I32 => each(src, dst, |b| i32::from_le_bytes(b) as f32),
        GgmlType::I64 => each(src, dst, |b| i64::from_le_bytes(b) as f32),
        GgmlType::F64 => each(src, dst, |b| f64::from_le_bytes(b) as f32),
        GgmlType::Q8_1 | GgmlType::Q8_K => {
            let blocks = src.chunks_exact(from.block_bytes()).zip(dst.chunks_exact_mut(from.block_size()));
            for (block, values) in blocks {
                let Some(head) = block.first_chunk::<4>() else { continue };
                let mut d = [f32::from_le_bytes(*head)];
                if from == GgmlType::Q8_1 && crate::f16_to_f32(&head[..2], &mut d).is_err() {
                    continue;
                }
                for (value, q) in values.iter_mut().zip(&block[4..]) {
                    *value = d[0] * f32::from(i8::from_le_bytes([*q]));
                }
            }
        }
        _ => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use super::first_bad;
    use crate::{GgmlType, to_f32};

    /// Compares with ggml's check on random blocks, some of which have all exponent bits set.
    #[test]
    fn finds_the_same_bad_blocks_as_ggml() {
        let mut state = 7_u64;
        let mut random = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize
        };
        let mut bad = 0;
        // ggml's check does not support Q8_1.
        for kind in GgmlType::known().filter(|kind| *kind != GgmlType::Q8_1) {
            for _ in 0..300 {
                let mut block: Vec<u8> = (0..kind.block_bytes()).map(|_| random() as u8 & 0x3b).collect();
                if random() % 3 > 0 {
                    let at = random() % block.len();
                    block[at..].iter_mut().take(2).for_each(|byte| *byte = 0xff);
                }
                // SAFETY: the pointer and the length are those of one block. `Vec` is aligned for every block.
                let theirs =
                    unsafe { llama_cpp_sys_2::ggml_validate_row_data(kind.id(), block.as_ptr().cast(), block.len()) };
                assert_eq!(first_bad(kind, &block).is_none(), theirs, "{kind} {block:?}");
                bad += usize::from(!theirs);
            }
        }
        assert!(bad > 100, "{bad}");
    }

    #[test]
    fn converts_every_known_type() {
        for kind in GgmlType::known() {
            let (block, mut out) = (vec![0; kind.block_bytes()], vec![1.0; kind.block_size()]);
            to_f32(kind, &block, &mut out).unwrap_or_else(|err| panic!("{kind}: {err}"));
            assert!(out.iter().all(|x| x.is_finite()), "{kind}");
        }
        let mut out = [0.0];
        to_f32(GgmlType::I16, &[0xfe, 0xff], &mut out).unwrap();
        assert_eq!(out, [-2.0]);
        let mut block = [1; 36];
        block[..2].copy_from_slice(&[0x00, 0x38]);
        let mut out = [0.0; 32];
        to_f32(GgmlType::Q8_1, &block, &mut out).unwrap();
        assert_eq!(out, [0.5; 32]);
    }
}
