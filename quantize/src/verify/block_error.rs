//! Compares a file's weights with the reference, block by block.
//!
//! The error of a whole tensor hides damage: if 8 % of its blocks are zeros, its relative RMSE is only 0.3. So blocks
//! of 256 weights are checked. The normal error depends on the weights (one outlier can increase the error of its block
//! tenfold), so for a block with a large error the reference is quantized again; the file's error may be at most twice
//! the error of this result. With an importance matrix, which moves errors to unimportant columns, the limit is four
//! times the error of this result plus 0.25.

use crate::kernels;
use llama_ext::GgmlType;

/// Weights that are compared together: a super-block.
pub(super) const BLOCK: usize = 256;

/// Minimum relative RMSE of a block that has lost its weights. A block of zeros has 1.
const ALL_LOST: f64 = 0.95;

/// The relative RMSE (RMSE / root mean square) of normally distributed weights in a type, measured with ggml's kernels
/// by the test below. Only blocks above 1.5 times this value are quantized again.
pub(super) const fn usual_error(ggml_type: GgmlType) -> f64 {
    use GgmlType as T;
    match ggml_type {
        T::F32 | T::F64 | T::I8 | T::I16 | T::I32 | T::I64 => 1e-7,
        T::F16 => 2e-4,
        T::BF16 => 1.7e-3,
        T::Q8_0 | T::Q8_1 | T::Q8_K => 0.0065,
        T::Q6_K => 0.02,
        T::Q5_K | T::Q5_1 | T::Q5_0 => 0.045,
        T::Q4_K | T::Q4_1 | T::Q4_0 | T::IQ4_NL | T::IQ4_XS | T::NVFP4 => 0.095,
        T::MXFP4 => 0.13,
        T::Q3_K | T::IQ3_S => 0.16,
        T::IQ3_XXS => 0.21,
        T::Q2_K | T::IQ2_S | T::IQ2_XS => 0.33,
        T::IQ2_XXS => 0.38,
        T::IQ1_S | T::IQ1_M => 0.55,
        T::Q1_0 => 0.65,
        T::Q2_0 => 0.75,
        T::TQ1_0 | T::TQ2_0 => 0.85,
    }
}

/// The rounding error of a lossless type: (relative, absolute).
const fn rounding(ggml_type: GgmlType) -> Option<(f32, f32)> {
    match ggml_type {
        // 2^-22; 2^-10 and 2^-24; 2^-7
        GgmlType::F32 | GgmlType::F64 => Some((2.384_185_8e-7, 0.0)),
        GgmlType::F16 => Some((0.000_976_562_5, 5.960_464_5e-8)),
        GgmlType::BF16 => Some((0.007_812_5, f32::MIN_POSITIVE)),
        _ => None,
    }
}

/// The types of the compared weights.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoredTypes {
    pub(super) file: GgmlType,
    pub(super) source: GgmlType,
    /// Whether the file was made with an importance matrix.
    pub(super) has_imatrix: bool,
}

/// Sums over weights.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct ErrorSums {
    pub(super) squared_difference: f64,
    pub(super) squared: f64,
    pub(super) max: f64,
}

impl ErrorSums {
    fn of(file: &[f32], source: &[f32]) -> Self {
        let mut sums = Self::default();
        for (a, b) in file.iter().zip(source) {
            let (difference, b) = (f64::from(*a) - f64::from(*b), f64::from(*b));
            sums.squared_difference += difference * difference;
            sums.squared += b * b;
            sums.max = sums.max.max(difference.abs());
        }
        sums
    }

    pub(super) fn add(&mut self, other: Self) {
        self.squared_difference += other.squared_difference;
        self.squared += other.squared;
        self.max = self.max.max(other.max);
    }

    /// Returns the relative RMSE.
    pub(super) fn relative(&self) -> f64 {
        (self.squared_difference / self.squared.max(f64::MIN_POSITIVE)).sqrt()
    }
}

/// A block that does not match the reference.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct BadBlock {
    /// Index of its first weight.
    pub(super) at: usize,
    /// Number of its weights.
    pub(super) len: usize,
    /// The problem.
    pub(super) what: String,
}

/// Compares rows of `columns` weights, or a part of a row. Returns the sums over all weights, the first bad block, and
/// the number of bad blocks.
pub(super) fn compare(
    file: &[f32],
    source: &[f32],
    columns: usize,
    between: StoredTypes,
) -> (ErrorSums, Option<BadBlock>, u64) {
    let (mut sums, mut first, mut count) = (ErrorSums::default(), None, 0_u64);
    let mut at = 0_usize;
    for (file, source) in file.chunks(columns.max(1)).zip(source.chunks(columns.max(1))) {
        for (file, source) in file.chunks(BLOCK).zip(source.chunks(BLOCK)) {
            let errors = ErrorSums::of(file, source);
            sums.add(errors);
            if let Some(what) = check_block(file, source, errors, between) {
                first.get_or_insert(BadBlock { at, len: file.len(), what });
                count = count.saturating_add(1);
            }
            at = at.saturating_add(file.len());
        }
    }
    (sums, first, count)
}

/// Returns the problem of a block, if there is one.
fn check_block(file: &[f32], source: &[f32], errors: ErrorSums, between: StoredTypes) -> Option<String> {
    if errors.squared_difference == 0.0 {
        return None;
    }
    if let (Some(a), Some(b)) = (rounding(between.file), rounding(between.source)) {
        // the source is exact, or it is a GGUF file, whose weights were rounded too
        let off = |(a_value, b_value): &(&f32, &f32)| {
            let (part, step) = (a.0 + b.0, a.1 + b.1);
            let too_large = (**a_value - **b_value).abs() > part * b_value.abs() + step;
            too_large || a_value.is_nan() || b_value.is_nan()
        };
        let (a, b) = file.iter().zip(source).find(off)?;
        return Some(format!("has {a}, the source has {b}"));
    }
    let usual = usual_error(between.file);
    let relative = errors.relative();
    #[allow(clippy::cast_precision_loss, clippy::as_conversions, reason = "an average over 256")]
    let size = (errors.squared / file.len().max(1) as f64).sqrt();
    if relative <= (1.5 * usual).min(ALL_LOST) && errors.max <= 6.0 * usual * size {
        return None;
    }
    let reference_error = 2.0 * self::usual_error(between.source);
    let (own, own_max) = match requantized_error(between.file, source) {
        Some(own) => (own.relative(), own.max),
        None => (1.25 * usual, f64::INFINITY),
    };
    let limit = match between.has_imatrix {
        true => (4.0 * own + 0.25).min(ALL_LOST.max(2.0 * own)),
        false => 2.0 * own,
    };
    let too_large =
        (relative > limit + reference_error || relative.is_nan()) && errors.squared_difference.sqrt() > 1e-12;
    let outlier = !between.has_imatrix && errors.max > 4.0 * own_max + 4.0 * reference_error * size;
    if !too_large && !outlier {
        return None;
    }
    if too_large {
        return Some(format!(
            "has relative RMSE {relative:.4} against the source; {own:.4} is usual for {}",
            between.file
        ));
    }
    Some(format!(
        "has a weight with error {:.3e} against the source; {own_max:.3e} is usual for {}",
        errors.max, between.file
    ))
}

/// Quantizes the source's weights and returns the error; `None` for a type without a quantizer.
fn requantized_error(ggml_type: GgmlType, source: &[f32]) -> Option<ErrorSums> {
    let mut packed = vec![0; ggml_type.row_bytes(source.len()).ok()?];
    let done = if ggml_type.is_written() {
        kernels::quantize(ggml_type, source, source.len(), None, &mut packed)
    } else if ggml_type.is_weights() {
        // some of these types need an importance matrix; all columns get the same importance
        llama_ext::quantize_rows(ggml_type, source, source.len(), Some(&vec![1.0; source.len()]), &mut packed)
    } else {
        return None;
    };
    done.ok()?;
    let mut back = vec![0.0; source.len()];
    llama_ext::to_f32(ggml_type, &packed, &mut back).ok()?;
    Some(ErrorSums::of(&back, source))
}

#[cfg(test)]
mod tests;
