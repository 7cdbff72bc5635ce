//! The bytes of a model's tensors by layer, to choose the layers for each memory.

use super::model_dims::ModelDims;
use tulu_quantize::gguf::Gguf;

/// The bytes of a model's tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TensorSizes {
    /// Of each transformer block.
    blocks: Vec<u64>,
    /// Of the output layer: the output matrix and its norm.
    output: u64,
    /// Of what always stays in main memory: the token embeddings.
    input: u64,
    /// Whether the output matrix is the token embeddings. In main memory, they are stored once.
    tied: bool,
    /// The largest tensor of a layer.
    largest: u64,
}

impl TensorSizes {
    /// Reads them from the header of a file, or of all parts of a split file.
    pub(crate) fn of(gguf: &Gguf, dims: &ModelDims) -> Self {
        let mut sizes = Self { blocks: vec![0; dims.n_layer as usize], output: 0, input: 0, tied: true, largest: 0 };
        for tensor in &gguf.tensors {
            let block = tensor.name.strip_prefix("blk.").and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
            let to = match (block, tensor.name.as_str()) {
                (Some(block), _) if block < sizes.blocks.len() => &mut sizes.blocks[block],
                (_, "token_embd.weight") => &mut sizes.input,
                _ => &mut sizes.output,
            };
            *to = to.saturating_add(tensor.bytes);
            sizes.tied &= tensor.name != "output.weight";
            if tensor.name != "token_embd.weight" {
                sizes.largest = sizes.largest.max(tensor.bytes);
            }
        }
        if sizes.tied {
            sizes.output = sizes.output.saturating_add(sizes.input);
            sizes.largest = sizes.largest.max(sizes.input);
        }
        sizes
    }

    /// Estimates them for a model that is not there yet, from the bytes of all tensors.
    pub(crate) fn estimate(dims: &ModelDims) -> Self {
        // Blocks have about 12 n_embd² weights; embeddings and output have n_vocab rows of n_embd.
        let (n_embd, n_vocab) = (u64::from(dims.n_embd), u64::from(dims.n_vocab));
        let units = 12 * n_embd * u64::from(dims.n_layer) + 2 * n_vocab;
        let part = |of: u64| {
            u64::try_from(u128::from(dims.tensor_bytes) * u128::from(of) / u128::from(units.max(1))).unwrap_or(u64::MAX)
        };
        let (block, output) = (part(12 * n_embd), part(n_vocab));
        Self {
            blocks: vec![block; dims.n_layer as usize],
            output,
            input: output,
            tied: false,
            largest: output.max(block / 4),
        }
    }

    /// Number of layers: the blocks and the output layer.
    pub(super) fn n_layers(&self) -> u32 {
        u32::try_from(self.blocks.len() + 1).unwrap_or(u32::MAX)
    }

    /// Number of transformer blocks among the layers from `first` to before `end`.
    pub(super) fn n_blocks(&self, first: u32, end: u32) -> u64 {
        let n_blocks = self.n_layers() - 1;
        u64::from(end.min(n_blocks).saturating_sub(first))
    }

    /// Bytes of the layers from `first` to before `end` on a device.
    pub(super) fn on_device(&self, first: u32, end: u32) -> u64 {
        let of = |layer| self.blocks.get(layer as usize).copied().unwrap_or(self.output);
        (first..end).map(of).fold(0, u64::saturating_add)
    }

    /// Bytes of what stays in main memory if the layers from `first` on are on devices.
    pub(super) fn in_main_memory(&self, first: u32) -> u64 {
        let layers = self.on_device(0, first);
        let shared = if self.tied && first == self.n_layers() { self.input } else { 0 };
        layers.saturating_add(self.input) - shared
    }

    /// Bytes of the largest tensor of a layer.
    pub(super) fn largest(&self) -> u64 {
        self.largest
    }
}
