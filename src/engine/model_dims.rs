//! The dimensions of a model, and the memory that it needs to run. The same formula is used for loading
//! (`memory_plan.rs`), `inspect`, the model card and the question before a download.

use super::settings::{CacheType, EngineSettings, FlashAttn, N_UBATCH};
use tulu_quantize::checkpoint::Config;

/// The dimensions of a model that determine its memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModelDims {
    /// Transformer blocks.
    pub(crate) n_layer: u32,
    /// Width of the residual stream.
    pub(crate) n_embd: u32,
    /// Attention heads.
    pub(crate) n_head: u32,
    /// Heads of keys and values.
    pub(crate) n_head_kv: u32,
    /// Values in one head.
    pub(crate) head_dim: u32,
    /// Vocabulary size.
    pub(crate) n_vocab: u32,
    /// Context size that the model was trained for, in tokens.
    pub(crate) n_ctx_train: u32,
    /// Bytes of all tensors.
    pub(crate) tensor_bytes: u64,
}

impl ModelDims {
    /// The dimensions of a model with this configuration whose tensors take `tensor_bytes`.
    pub(crate) fn of(config: &Config, tensor_bytes: u64) -> Self {
        Self {
            n_layer: config.num_hidden_layers,
            n_embd: config.hidden_size,
            n_head: config.num_attention_heads,
            n_head_kv: config.num_key_value_heads,
            head_dim: config.head_dim,
            n_vocab: config.vocab_size,
            n_ctx_train: config.max_position_embeddings,
            tensor_bytes,
        }
    }

    /// Returns the bytes of main memory that a run on the CPU needs: the tensors, a KV cache of `n_cells` tokens and the
    /// compute buffers. `offload_plan.rs` divides them over devices.
    pub(crate) fn memory_needed(&self, settings: &EngineSettings, n_cells: u32) -> u64 {
        let kv = self.kv_bytes_per_cell(settings.type_k, settings.type_v).saturating_mul(u64::from(n_cells));
        self.tensor_bytes.saturating_add(kv).saturating_add(self.compute_bytes(settings, n_cells))
    }

    /// Returns [`Self::memory_needed`] for one sequence with the whole training context and default settings. Model
    /// cards, `inspect` and the question before a download show this number.
    pub(crate) fn memory_with_defaults(&self) -> u64 {
        self.memory_needed(&EngineSettings::default(), self.n_ctx_train)
    }

    /// Returns the KV cache bytes per cell (one token position; a shared prefix is stored once).
    pub(crate) fn kv_bytes_per_cell(&self, type_k: CacheType, type_v: CacheType) -> u64 {
        let values = u64::from(self.n_head_kv) * u64::from(self.head_dim);
        let row = |cache: CacheType| {
            let (block, bytes) = cache.block();
            values.div_ceil(block) * bytes
        };
        u64::from(self.n_layer) * (row(type_k) + row(type_v))
    }

    /// Returns the bytes that one more KV cell costs: its keys and values, and its part of the compute buffers.
    pub(super) fn bytes_per_cell(&self, settings: &EngineSettings) -> u64 {
        self.kv_bytes_per_cell(settings.type_k, settings.type_v) + mask_bytes(self, settings) * u64::from(N_UBATCH)
    }

    /// Returns the bytes of llama.cpp's compute buffers: logits and activations of one micro-batch (the widest layer is
    /// about three times as wide as the residual stream), and [`mask_bytes`].
    pub(super) fn compute_bytes(&self, settings: &EngineSettings, n_cells: u32) -> u64 {
        let row = u64::from(self.n_vocab) + 16 * u64::from(self.n_embd);
        u64::from(N_UBATCH) * (4 * row + mask_bytes(self, settings) * u64::from(n_cells))
    }

    /// Tulu 2 13B at Q4_K_M.
    #[cfg(test)]
    pub(super) fn tulu_13b() -> Self {
        Self {
            n_layer: 40,
            n_embd: 5120,
            n_head: 40,
            n_head_kv: 40,
            head_dim: 128,
            n_vocab: 32_000,
            n_ctx_train: 4096,
            tensor_bytes: 7_865_000_000,
        }
    }
}

/// Bytes of compute buffers per cell and row of a micro-batch: with flash attention, the mask in f16; without it, the
/// mask and the score matrix in f32.
pub(super) fn mask_bytes(dims: &ModelDims, settings: &EngineSettings) -> u64 {
    match settings.flash_attn {
        FlashAttn::Off => 4 + 4 * u64::from(dims.n_head),
        FlashAttn::On | FlashAttn::Auto => 2,
    }
}
