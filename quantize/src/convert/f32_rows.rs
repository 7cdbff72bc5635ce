//! Reads rows of a planned tensor as f32 in the order of the GGUF file: converts them, checks for NaN and infinity, and
//! interleaves the rows of rotary tensors. The bytes come from `read_rows`.

use crate::checkpoint::Checkpoint;
use crate::convert::read_rows::{self, ReadAt, RowRange};
use crate::error::{Code, Error, Result};
use crate::integers::to_usize;
use crate::llama_tensors::{Layout, rotary_source_row};
use crate::plan::PlannedTensor;
use llama_ext::GgmlType;

/// Reads rows. It owns the buffers of one thread, which grow to the size of the largest chunk.
#[derive(Debug, Default)]
pub(crate) struct RowReader {
    bytes: Vec<u8>,
    weights: Vec<f32>,
    ordered: Vec<f32>,
}

/// Rows that were read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct F32Rows<'a> {
    /// Their bytes in the source.
    pub(crate) bytes: &'a [u8],
    /// Their weights, in the order of the GGUF file.
    pub(crate) weights: &'a [f32],
    /// The largest magnitude of a weight.
    pub(crate) largest: f32,
}

impl RowReader {
    /// The bytes that were read last.
    pub(crate) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Reads `count` rows of `tensor` from row `first`; `read` reads from its shard. The rows of a rotary tensor must
    /// be whole heads.
    pub(crate) fn read(
        &mut self,
        source: &Checkpoint,
        read: &ReadAt<'_>,
        tensor: &PlannedTensor,
        (first, count): (u64, u64),
    ) -> Result<F32Rows<'_>> {
        let from = &source.tensors[tensor.source];
        let shard = &source.shards[from.shard];
        let columns = to_usize(tensor.n_per_row());
        read_rows::read(shard, read, from, RowRange { first, count, columns: tensor.n_per_row() }, &mut self.bytes)?;
        self.weights.resize(to_usize(count) * columns, 0.0);
        let read = match from.dtype {
            GgmlType::BF16 => llama_ext::bf16_to_f32(&self.bytes, &mut self.weights),
            other => llama_ext::to_f32(other, &self.bytes, &mut self.weights),
        };
        read.map_err(|err| Error::new(Code::Engine, &shard.path, format!("{}: {err}", from.name), "report this"))?;
        let largest = largest(&self.weights);
        let not_finite = if largest.is_finite() { None } else { first_not_finite(&self.weights) };
        if let Some(at) = not_finite {
            let (value, row) = (self.weights[at], first + (at / columns) as u64);
            let what = format!("tensor '{}' has {value} at row {row}, column {}", from.name, at % columns);
            let fix = "the checkpoint is damaged: download it again";
            return Err(Error::new(Code::TensorValue, &shard.path, what, fix));
        }
        if tensor.layout != Layout::RotaryPairs {
            return Ok(F32Rows { bytes: &self.bytes, weights: &self.weights, largest });
        }
        let head_dim = source.config.head_dim as usize;
        self.ordered.clear();
        for row in 0..to_usize(count) {
            let start = rotary_source_row(row, head_dim) * columns;
            self.ordered.extend_from_slice(&self.weights[start..start + columns]);
        }
        Ok(F32Rows { bytes: &self.bytes, weights: &self.ordered, largest })
    }
}

/// Returns the largest magnitude; infinity or NaN if a weight is. It compares integers, which is as fast as the memory:
/// without the sign bit, the bits of floats are ordered like their magnitudes, with infinity and NaN last.
pub(crate) fn largest(weights: &[f32]) -> f32 {
    f32::from_bits(weights.iter().fold(0, |most, w| most.max(w.to_bits() & !SIGN)))
}

/// The sign bit of an f32.
const SIGN: u32 = 1 << 31;

/// Returns the index of the first NaN or infinity; `None` if all weights are finite.
pub(crate) fn first_not_finite(weights: &[f32]) -> Option<usize> {
    if largest(weights).is_finite() { None } else { weights.iter().position(|w| !w.is_finite()) }
}
