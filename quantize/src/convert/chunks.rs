//! Splits the rows of all tensors into chunks, the unit of work of a thread.

use super::storage_crc::{CrcChunk, StorageCrcs};
use crate::checkpoint::Checkpoint;
use crate::llama_tensors::Layout;
use crate::plan::{Plan, PlannedTensor};

/// Weights in a chunk: 1 MiB of BF16, 2 MiB of f32, at most 2 MiB of output.
pub(crate) const CHUNK_WEIGHTS: u64 = 1 << 19;

/// A run of rows of one tensor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunk {
    /// Index of the tensor in [`Plan::tensors`].
    pub(crate) tensor: usize,
    pub(crate) first_row: u64,
    pub(crate) rows: u64,
    /// The part of a storage that this chunk covers, if the storage has a CRC-32.
    pub(crate) crc_chunk: Option<CrcChunk>,
}

impl Chunk {
    /// Returns the length in the source in bytes.
    pub(crate) fn bytes(&self, plan: &Plan) -> u64 {
        let tensor = &plan.tensors[self.tensor];
        tensor.source_bytes / tensor.n_rows().max(1) * self.rows
    }
}

/// Returns the rows of `t` in a chunk. Rotary tensors have whole heads in a chunk, because their rows are interleaved.
pub(super) fn rows_per_chunk(t: &PlannedTensor, head_dim: u32) -> u64 {
    let fit = (CHUNK_WEIGHTS / t.n_per_row().max(1)).max(1);
    let unit = if t.layout == Layout::RotaryPairs { u64::from(head_dim).max(1) } else { 1 };
    (fit / unit).max(1) * unit
}

/// Returns the chunks of all tensors in the order of the source files, so that the disk is read sequentially. With
/// `crcs`, the chunks also cover the storages in it.
pub(crate) fn chunks(source: &Checkpoint, plan: &Plan, mut crcs: Option<&mut StorageCrcs<'_>>) -> Vec<Chunk> {
    let mut order: Vec<usize> = (0..plan.tensors.len()).collect();
    let at = |i: &usize| source.tensors.get(plan.tensors[*i].source).map(|t| (t.shard, t.offset));
    order.sort_by_key(at);
    let mut all = Vec::new();
    for tensor in order {
        let t = &plan.tensors[tensor];
        let per_chunk = rows_per_chunk(t, source.config.head_dim);
        let mut first_row = 0;
        while first_row < t.n_rows() {
            let rows = per_chunk.min(t.n_rows() - first_row);
            let bytes = rows * (t.source_bytes / t.n_rows());
            let crc_chunk = crcs.as_mut().and_then(|crcs| crcs.next_chunk(tensor, bytes));
            all.push(Chunk { tensor, first_row, rows, crc_chunk });
            first_row += rows;
        }
    }
    all
}
