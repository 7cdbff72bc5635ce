//! Checks one tensor of a GGUF file, span by span: every weight finite, and close to the reference.

use super::block_error::{self, BadBlock, ErrorSums, StoredTypes};
use super::file_spans::WeightSpan;
use super::reference::{Reference, source_of};
use crate::convert::f32_rows::{RowReader, first_not_finite};
use crate::error::{Code, Error, Result};
use crate::gguf::{Gguf, TensorInfo};
use crate::integers::{to_u64, to_usize};
use llama_ext::GgmlType;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How far a tensor is from its reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distance {
    /// Root of the mean squared difference.
    pub rmse: f64,
    /// Largest difference.
    pub max: f64,
    /// `rmse` over the root mean square of the reference.
    pub relative: f64,
}

/// What was found of one tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// GGUF name.
    pub name: String,
    /// How it is stored.
    pub ggml_type: GgmlType,
    /// What is wrong with it.
    pub problem: Option<String>,
    /// How far it is from the reference, where there is one.
    pub distance: Option<Distance>,
}

#[derive(Default)]
pub(super) struct Buffers {
    weights: Vec<f32>,
    bytes: Vec<u8>,
    other: Vec<f32>,
    reader: RowReader,
}

pub(super) fn lock(found: &Mutex<TensorState>) -> MutexGuard<'_, TensorState> {
    found.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is known of a tensor so far.
pub(super) struct TensorState {
    /// What is wrong with it as a whole.
    shape: Option<String>,
    /// StoredTypes what it is measured, where it is.
    pub(super) between: Option<StoredTypes>,
    sums: ErrorSums,
    /// The first weight that something is wrong with, and what.
    first: Option<(u64, String)>,
    /// Windows that are too far from the source.
    far: u64,
}

impl TensorState {
    pub(super) fn new(t: &TensorInfo, against: Option<&Reference>) -> Self {
        let (mut shape, mut between) = (None, None);
        if let Some(reference) = against {
            match reference.dims(&t.name) {
                Some(dims) if dims == t.dims => {
                    between = Some(StoredTypes {
                        file: t.ggml_type,
                        source: reference.stored_type(&t.name),
                        has_imatrix: false,
                    });
                }
                Some(dims) => shape = Some(format!("has shape {:?}, the source has {dims:?}", t.dims)),
                None => shape = Some("is not in the source".to_owned()),
            }
        }
        Self { shape, between, sums: ErrorSums::default(), first: None, far: 0 }
    }

    pub(super) fn wrong(&mut self, at: u64, what: String) {
        if self.first.as_ref().is_none_or(|(first, _)| at < *first) {
            self.first = Some((at, what));
        }
    }

    pub(super) fn check(self, t: &TensorInfo) -> Check {
        let more = self.far.saturating_sub(1);
        let more = if more > 0 { format!(", and {more} more places are as wrong") } else { String::new() };
        let problem = self.shape.or(self.first.map(|(_, what)| what + &more));
        let distance = self.between.map(|_| {
            #[allow(clippy::cast_precision_loss, clippy::as_conversions, reason = "an average")]
            let rmse = (self.sums.squared_difference / t.n_weights().max(1) as f64).sqrt();
            Distance { rmse, max: self.sums.max, relative: self.sums.relative() }
        });
        Check { name: t.name.clone(), ggml_type: t.ggml_type, problem, distance }
    }
}

/// Looks at some weights of tensor `t`, of which `bytes` are in the file.
pub(super) fn check(
    file: &Gguf,
    t: &TensorInfo,
    part: WeightSpan,
    bytes: &[u8],
    against: Option<&Reference>,
    found: &Mutex<TensorState>,
    buffers: &mut Buffers,
) -> Result<()> {
    let columns = t.n_per_row().max(1);
    let place = |at: u64| (at.checked_div(columns).unwrap_or(0), at.checked_rem(columns).unwrap_or(0));
    buffers.weights.resize(to_usize(part.count), 0.0);
    llama_ext::to_f32(t.ggml_type, bytes, &mut buffers.weights)
        .map_err(|err| Error::new(Code::Engine, &file.path, format!("{}: {err}", t.name), "report this"))?;
    let block = u64::try_from(t.ggml_type.block_size()).unwrap_or(1);
    if let Some(bad) = llama_ext::blocks::first_bad(t.ggml_type, bytes) {
        let at = part.first.saturating_add(to_u64(bad).saturating_mul(block));
        let (row, column) = place(at);
        let what = match block {
            1 => format!("has a weight that is no number at row {row}, column {column}"),
            _ => format!("has a block whose scale is not a number at row {row}, column {column}"),
        };
        lock(found).wrong(at, what);
    } else if let Some(bad) = first_not_finite(&buffers.weights) {
        let at = part.first.saturating_add(to_u64(bad));
        let (row, column) = place(at);
        let value = buffers.weights.get(bad).copied().unwrap_or(f32::NAN);
        lock(found).wrong(at, format!("has {value} at row {row}, column {column}"));
    }
    let between = lock(found).between;
    let (Some(reference), Some(between)) = (against, between) else { return Ok(()) };
    let has_imatrix = file.pairs.iter().any(|(key, _)| key.starts_with("quantize.imatrix."));
    let Buffers { weights, bytes, other, reader } = buffers;
    let right = source_of(reference, t, part, bytes, other, reader)?;
    let (sums, first, far) =
        block_error::compare(weights, right, to_usize(columns), StoredTypes { has_imatrix, ..between });
    let mut found = lock(found);
    found.sums.add(sums);
    found.far = found.far.saturating_add(far);
    if let Some(BadBlock { at, len, what }) = first {
        let at = part.first.saturating_add(to_u64(at));
        let ((row, column), last) = (place(at), to_u64(len).saturating_sub(1));
        let to = column.saturating_add(last);
        found.wrong(at, format!("{what} at row {row}, columns {column} to {to}"));
    }
    Ok(())
}
