//! The shape of a LLaMA model as a configuration, for the tables of the family.

use tulu_quantize::checkpoint::{Config, RopeScaling};

/// Returns the configuration of a model that is derived from Llama 2, except for the shape: width, feed-forward width,
/// layers, heads, key-value heads and vocabulary.
pub(super) const fn shape(hidden: u32, ffn: u32, layers: u32, heads: u32, kv: u32, vocab: u32) -> Config {
    Config {
        hidden_size: hidden,
        intermediate_size: ffn,
        num_hidden_layers: layers,
        num_attention_heads: heads,
        num_key_value_heads: kv,
        head_dim: 128,
        vocab_size: vocab,
        max_position_embeddings: 8192,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::None,
        tie_word_embeddings: false,
        bos_token_id: Some(1),
        eos_token_id: Some(2),
        pad_token_id: None,
    }
}
