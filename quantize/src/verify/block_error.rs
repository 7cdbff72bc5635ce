//! How far weights are from those they were made of, block by block.
//!
//! A tensor as a whole hides much: with 8 % of its blocks zeroed it is only a third of its size away. So every 256 weights
//! of a row are measured. Whether their error is the type's own depends on the weights (one outlier in a block is enough to
//! make the error of all others ten times the usual), so where it looks too large, the source's weights are quantized again,
//! and the file's error may be twice as large as that. An importance matrix moves error from columns that matter to those
//! that do not: then it may be four times as large, and a quarter of the size more.

use crate::kernels;
use llama_ext::GgmlType;

/// Weights that are measured together: a super-block.
pub(super) const BLOCK: usize = 256;

/// A block that has nothing of its weights any more is all of its size away.
const NEARLY_NOTHING: f64 = 0.95;

/// The relative error (RMSE over root mean square) that bell-shaped weights have in a type: measured with ggml's kernels,
/// by the test below. Only what exceeds it by half is looked at closely.
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

/// What a lossless type may differ by: (part of the value, smallest step).
const fn rounding(ggml_type: GgmlType) -> Option<(f32, f32)> {
    match ggml_type {
        // 2^-22; 2^-10 and 2^-24; 2^-7
        GgmlType::F32 | GgmlType::F64 => Some((2.384_185_8e-7, 0.0)),
        GgmlType::F16 => Some((0.000_976_562_5, 5.960_464_5e-8)),
        GgmlType::BF16 => Some((0.007_812_5, f32::MIN_POSITIVE)),
        _ => None,
    }
}

/// StoredTypes what two sorts of weights a distance is.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoredTypes {
    pub(super) file: GgmlType,
    pub(super) source: GgmlType,
    /// Whether the file was made with an importance matrix.
    pub(super) has_imatrix: bool,
}

/// ErrorSums over weights.
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

    /// Error over size.
    pub(super) fn relative(&self) -> f64 {
        (self.squared_difference / self.squared.max(f64::MIN_POSITIVE)).sqrt()
    }
}

/// The first place where weights are not those of the source.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct BadBlock {
    /// Index among the weights that were compared.
    pub(super) at: usize,
    /// How many there are.
    pub(super) len: usize,
    /// What is wrong there.
    pub(super) what: String,
}

/// Compares rows of `columns` weights (or a part of one row); the sums are over all of them. With them the first window
/// that is wrong, and how many are.
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
            let here = ErrorSums::of(file, source);
            sums.add(here);
            if let Some(what) = judge(file, source, here, between) {
                first.get_or_insert(BadBlock { at, len: file.len(), what });
                count = count.saturating_add(1);
            }
            at = at.saturating_add(file.len());
        }
    }
    (sums, first, count)
}

fn judge(file: &[f32], source: &[f32], here: ErrorSums, between: StoredTypes) -> Option<String> {
    if here.squared_difference == 0.0 {
        return None;
    }
    if let (Some(a), Some(b)) = (rounding(between.file), rounding(between.source)) {
        // a source is as it is; only where it is a file that was made too, it was rounded as well
        let off = |(a_value, b_value): &(&f32, &f32)| {
            let (part, step) = (a.0 + b.0, a.1 + b.1);
            let far = (**a_value - **b_value).abs() > part * b_value.abs() + step;
            far || a_value.is_nan() || b_value.is_nan()
        };
        let (a, b) = file.iter().zip(source).find(off)?;
        return Some(format!("has {a}, the source has {b}"));
    }
    let usual = usual_error(between.file);
    let relative = here.relative();
    #[allow(clippy::cast_precision_loss, clippy::as_conversions, reason = "an average over 256")]
    let size = (here.squared / file.len().max(1) as f64).sqrt();
    if relative <= (1.5 * usual).min(NEARLY_NOTHING) && here.max <= 6.0 * usual * size {
        return None;
    }
    let spare = 2.0 * self::usual_error(between.source);
    let (own, own_max) = match requantized_error(between.file, source) {
        Some(own) => (own.relative(), own.max),
        None => (1.25 * usual, f64::INFINITY),
    };
    let most = match between.has_imatrix {
        true => (4.0 * own + 0.25).min(NEARLY_NOTHING.max(2.0 * own)),
        false => 2.0 * own,
    };
    let far = (relative > most + spare || relative.is_nan()) && here.squared_difference.sqrt() > 1e-12;
    let single = !between.has_imatrix && here.max > 4.0 * own_max + 4.0 * spare * size;
    if !far && !single {
        return None;
    }
    if far {
        return Some(format!(
            "is {relative:.4} of its size away from the source; {own:.4} is usual for {}",
            between.file
        ));
    }
    Some(format!("has a weight {:.3e} away from the source; {own_max:.3e} is usual for {}", here.max, between.file))
}

/// The error of the source's weights when they are quantized again; `None` for a type that nothing here writes.
fn requantized_error(ggml_type: GgmlType, source: &[f32]) -> Option<ErrorSums> {
    let mut packed = vec![0; ggml_type.row_bytes(source.len()).ok()?];
    let done = if ggml_type.is_written() {
        kernels::quantize(ggml_type, source, source.len(), None, &mut packed)
    } else if ggml_type.is_weights() {
        // some of these types need weights of importance: all columns have the same
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
