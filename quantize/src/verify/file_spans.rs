//! Splits a GGUF file into spans that one thread checks at a time, in the order of the file.

use crate::convert::CHUNK_WEIGHTS;
use crate::gguf::Gguf;
use crate::integers::to_u64;

/// Longest span outside tensors, in bytes.
const GAP_BYTES: u64 = 1 << 20;

/// A range of weights of a tensor; `first` is counted from its first weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WeightSpan {
    pub(super) tensor: usize,
    pub(super) first: u64,
    pub(super) count: u64,
}

/// A range of bytes of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileSpan {
    pub(super) offset: u64,
    pub(super) len: u64,
    /// The weights in it; `None` outside tensors.
    pub(super) weights: Option<WeightSpan>,
}

/// Splits the whole file, including header, padding and bytes after the last tensor. Spans have whole rows, in
/// multiples of `unit(tensor)`, unless a row is longer than a span.
pub(super) fn split(file: &Gguf, unit: impl Fn(usize) -> u64) -> Vec<FileSpan> {
    let (mut all, mut at) = (Vec::new(), 0);
    for (tensor, t) in file.tensors.iter().enumerate() {
        add_gap(&mut all, at, t.offset);
        at = t.offset;
        let (block, block_bytes) = (to_u64(t.ggml_type.block_size()).max(1), to_u64(t.ggml_type.block_bytes()));
        let unit = unit(tensor).max(1);
        let columns = t.n_per_row().max(1);
        let rows = CHUNK_WEIGHTS.checked_div(columns.saturating_mul(unit)).unwrap_or(0).max(1).saturating_mul(unit);
        let whole_rows = columns <= CHUNK_WEIGHTS || unit > 1;
        let step = if whole_rows { rows.saturating_mul(columns) } else { CHUNK_WEIGHTS };
        let mut first = 0;
        while first < t.n_weights() {
            let count = step.min(t.n_weights().saturating_sub(first));
            let len = count.checked_div(block).unwrap_or(0).saturating_mul(block_bytes);
            all.push(FileSpan { offset: at, len, weights: Some(WeightSpan { tensor, first, count }) });
            at = at.saturating_add(len);
            first = first.saturating_add(count);
        }
    }
    add_gap(&mut all, at, file.len);
    all
}

/// Adds spans for the bytes from `at` to `end`, which are outside tensors.
fn add_gap(all: &mut Vec<FileSpan>, mut at: u64, end: u64) {
    while at < end {
        let len = GAP_BYTES.min(end.saturating_sub(at));
        all.push(FileSpan { offset: at, len, weights: None });
        at = at.saturating_add(len);
    }
}
