//! [`PlannedTensor`], the plain data of a tensor of the outputs.

use crate::llama_tensors::Layout;

/// A tensor of the outputs; only its type differs between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedTensor {
    /// Name in the GGUF file.
    pub name: String,
    /// Dimensions in ggml's order: row length first.
    pub dims: Vec<u64>,
    /// Index into [`crate::checkpoint::Checkpoint::tensors`].
    pub source: usize,
    /// Length in the checkpoint in bytes.
    pub source_bytes: u64,
    /// Row order.
    pub(crate) layout: Layout,
}

impl PlannedTensor {
    /// Returns the weights in a row.
    #[must_use]
    pub fn n_per_row(&self) -> u64 {
        self.dims.first().copied().unwrap_or(0)
    }

    /// Returns the number of rows; 1 for a vector.
    #[must_use]
    pub fn n_rows(&self) -> u64 {
        self.dims.iter().skip(1).product()
    }
}
