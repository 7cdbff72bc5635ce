//! Checks the weights of one tensor, span by span: each must be finite and, with a reference, close to it.

use super::block_error::{self, BadBlock, ErrorSums, StoredTypes};
use super::file_spans::WeightSpan;
use super::reference::{Reference, read_reference};
use crate::convert::f32_rows::{RowReader, first_not_finite};
use crate::error::{Code, Error, Result};
use crate::gguf::{Gguf, TensorInfo};
use crate::integers::{to_u64, to_usize};
use llama_ext::GgmlType;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The error of a tensor against its reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distance {
    /// Root mean square error, √(Σ(file − reference)² / n).
    pub rmse: f64,
    /// Largest absolute error.
    pub max: f64,
    /// `rmse` divided by the root mean square of the reference.
    pub relative: f64,
}

/// The result for a tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// GGUF name.
    pub name: String,
    /// Stored type.
    pub ggml_type: GgmlType,
    /// The problem, if there is one.
    pub problem: Option<String>,
    /// Error against the reference; `None` if the tensor is not compared.
    pub distance: Option<Distance>,
}

/// The buffers of a thread.
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

/// The intermediate result for a tensor.
pub(super) struct TensorState {
    /// Problem of its shape or name.
    shape: Option<String>,
    /// The compared types, if the tensor is compared.
    pub(super) between: Option<StoredTypes>,
    sums: ErrorSums,
    /// Index of the first bad weight, and its problem.
    first: Option<(u64, String)>,
    /// Number of blocks whose error is too large.
    bad_blocks: u64,
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
        Self { shape, between, sums: ErrorSums::default(), first: None, bad_blocks: 0 }
    }

    pub(super) fn add_problem(&mut self, at: u64, what: String) {
        if self.first.as_ref().is_none_or(|(first, _)| at < *first) {
            self.first = Some((at, what));
        }
    }

    pub(super) fn finish(self, t: &TensorInfo) -> Check {
        let more = self.bad_blocks.saturating_sub(1);
        let more = if more > 0 { format!(", and {more} more blocks are bad") } else { String::new() };
        let problem = self.shape.or(self.first.map(|(_, what)| what + &more));
        let distance = self.between.map(|_| {
            #[allow(clippy::cast_precision_loss, clippy::as_conversions, reason = "an average")]
            let rmse = (self.sums.squared_difference / t.n_weights().max(1) as f64).sqrt();
            Distance { rmse, max: self.sums.max, relative: self.sums.relative() }
        });
        Check { name: t.name.clone(), ggml_type: t.ggml_type, problem, distance }
    }
}

/// Checks the weights `span` of tensor `t`, whose bytes are `bytes`, and adds the result to `found`.
pub(super) fn check(
    file: &Gguf,
    t: &TensorInfo,
    span: WeightSpan,
    bytes: &[u8],
    against: Option<&Reference>,
    found: &Mutex<TensorState>,
    buffers: &mut Buffers,
) -> Result<()> {
    let columns = t.n_per_row().max(1);
    let place = |at: u64| (at.checked_div(columns).unwrap_or(0), at.checked_rem(columns).unwrap_or(0));
    buffers.weights.resize(to_usize(span.count), 0.0);
    llama_ext::to_f32(t.ggml_type, bytes, &mut buffers.weights)
        .map_err(|err| Error::new(Code::Engine, &file.path, format!("{}: {err}", t.name), "report this"))?;
    let block = u64::try_from(t.ggml_type.block_size()).unwrap_or(1);
    if let Some(bad) = llama_ext::blocks::first_bad(t.ggml_type, bytes) {
        let at = span.first.saturating_add(to_u64(bad).saturating_mul(block));
        let (row, column) = place(at);
        let what = match block {
            1 => format!("has a NaN or infinite weight at row {row}, column {column}"),
            _ => format!("has a block with a NaN or infinite scale at row {row}, column {column}"),
        };
        lock(found).add_problem(at, what);
    } else if let Some(bad) = first_not_finite(&buffers.weights) {
        let at = span.first.saturating_add(to_u64(bad));
        let (row, column) = place(at);
        let value = buffers.weights.get(bad).copied().unwrap_or(f32::NAN);
        lock(found).add_problem(at, format!("has {value} at row {row}, column {column}"));
    }
    let between = lock(found).between;
    let (Some(reference), Some(between)) = (against, between) else { return Ok(()) };
    let has_imatrix = file.pairs.iter().any(|(key, _)| key.starts_with("quantize.imatrix."));
    let Buffers { weights, bytes, other, reader } = buffers;
    let expected = read_reference(reference, t, span, bytes, other, reader)?;
    let (sums, first, bad_blocks) =
        block_error::compare(weights, expected, to_usize(columns), StoredTypes { has_imatrix, ..between });
    let mut found = lock(found);
    found.sums.add(sums);
    found.bad_blocks = found.bad_blocks.saturating_add(bad_blocks);
    if let Some(BadBlock { at, len, what }) = first {
        let at = span.first.saturating_add(to_u64(at));
        let ((row, column), last) = (place(at), to_u64(len).saturating_sub(1));
        let to = column.saturating_add(last);
        found.add_problem(at, format!("{what} at row {row}, columns {column} to {to}"));
    }
    Ok(())
}
