//! The rows of all tensors cut into chunks that one thread converts at a time.

use super::storage_crc::{CrcChunk, StorageCrcs};
use crate::checkpoint::Checkpoint;
use crate::llama_tensors::Layout;
use crate::plan::{Plan, PlannedTensor};

/// Weights in one chunk: 1 MiB of BF16 in, 2 MiB of f32, at most 2 MiB out.
pub(crate) const CHUNK_WEIGHTS: u64 = 1 << 19;

/// Some rows of one tensor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunk {
    pub(crate) tensor: usize,
    pub(crate) first_row: u64,
    pub(crate) rows: u64,
    /// What its bytes are of a storage whose CRC32 is known.
    pub(crate) crc_chunk: Option<CrcChunk>,
}

impl Chunk {
    /// Bytes in the source.
    pub(crate) fn bytes(&self, plan: &Plan) -> u64 {
        let tensor = &plan.tensors[self.tensor];
        tensor.source_bytes / tensor.n_rows().max(1) * self.rows
    }
}

/// Rows of `t` in one chunk: interleaving takes rows from both halves of a head, so there a chunk has whole heads.
pub(super) fn step(t: &PlannedTensor, head_dim: u32) -> u64 {
    let fit = (CHUNK_WEIGHTS / t.n_per_row().max(1)).max(1);
    let unit = if t.layout == Layout::RotaryPairs { u64::from(head_dim).max(1) } else { 1 };
    (fit / unit).max(1) * unit
}

/// Every row of every tensor, in the order of the source files so that the disk is read forward.
pub(crate) fn chunks(source: &Checkpoint, plan: &Plan, mut sums: Option<&mut StorageCrcs<'_>>) -> Vec<Chunk> {
    let mut order: Vec<usize> = (0..plan.tensors.len()).collect();
    let at = |i: &usize| source.tensors.get(plan.tensors[*i].source).map(|t| (t.shard, t.offset));
    order.sort_by_key(at);
    let mut all = Vec::new();
    for tensor in order {
        let t = &plan.tensors[tensor];
        let step = step(t, source.config.head_dim);
        let mut first_row = 0;
        while first_row < t.n_rows() {
            let rows = step.min(t.n_rows() - first_row);
            let bytes = rows * (t.source_bytes / t.n_rows());
            let crc_chunk = sums.as_mut().and_then(|sums| sums.next_chunk(tensor, bytes));
            all.push(Chunk { tensor, first_row, rows, crc_chunk });
            first_row += rows;
        }
    }
    all
}
