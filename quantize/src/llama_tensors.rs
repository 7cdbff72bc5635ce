//! The table of a LLaMA model's tensors: name in the checkpoint, name in a GGUF file, shape and row order. A tensor
//! that is not in the table is an error, except those that no loader uses (`checkpoint/shard.rs`).

use crate::checkpoint::config::Config;
use crate::rope_factors;
use llama_ext::ModelShape;

/// Row order of a tensor in the GGUF file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// The order of the checkpoint.
    AsIs,
    /// The rows of each head are interleaved: Transformers rotates the halves of a head, llama.cpp adjacent pairs.
    RotaryPairs,
}

/// An entry of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExpectedTensor {
    /// Name in the checkpoint.
    pub(crate) hf_name: String,
    /// Name in the GGUF file.
    pub(crate) name: String,
    /// Rows × columns in the checkpoint; one number for a vector.
    pub(crate) shape: Vec<u64>,
    pub(crate) layout: Layout,
}

/// A vector of f32 that a checkpoint does not have: it is computed from config.json.
#[derive(Clone, Debug, PartialEq)]
pub struct ComputedTensor {
    /// Name in the GGUF file.
    pub name: &'static str,
    /// Dimensions in ggml's order: the number of weights.
    pub dims: [u64; 1],
    /// The weights.
    pub weights: Vec<f32>,
}

/// Name of the factors of a Llama 3.1 model's rotary frequencies.
pub(crate) const ROPE_FREQS: &str = "rope_freqs.weight";

/// Returns the entry of [`ROPE_FREQS`], which GGUF files have and checkpoints do not.
pub(crate) fn rope_freqs(config: &Config) -> ExpectedTensor {
    let shape = vec![u64::from(config.head_dim) / 2];
    ExpectedTensor { hf_name: ROPE_FREQS.to_owned(), name: ROPE_FREQS.to_owned(), shape, layout: Layout::AsIs }
}

/// Returns the tensors that are computed from config.json.
pub(crate) fn computed(config: &Config) -> Vec<ComputedTensor> {
    let rope = rope_factors::factors(config);
    let rope = rope.map(|weights| ComputedTensor { name: ROPE_FREQS, dims: [weights.len() as u64], weights });
    rope.into_iter().collect()
}

/// A tensor of every layer: name in the checkpoint, name in a GGUF file, shape in terms of the configuration, layout.
type LayerTensor = (&'static str, &'static str, fn(&Config) -> Vec<u64>, Layout);

const LAYER: [LayerTensor; 9] = [
    ("self_attn.q_proj", "attn_q", |c| vec![heads(c), hidden(c)], Layout::RotaryPairs),
    ("self_attn.k_proj", "attn_k", |c| vec![kv_heads(c), hidden(c)], Layout::RotaryPairs),
    ("self_attn.v_proj", "attn_v", |c| vec![kv_heads(c), hidden(c)], Layout::AsIs),
    ("self_attn.o_proj", "attn_output", |c| vec![hidden(c), heads(c)], Layout::AsIs),
    ("mlp.gate_proj", "ffn_gate", |c| vec![ffn(c), hidden(c)], Layout::AsIs),
    ("mlp.up_proj", "ffn_up", |c| vec![ffn(c), hidden(c)], Layout::AsIs),
    ("mlp.down_proj", "ffn_down", |c| vec![hidden(c), ffn(c)], Layout::AsIs),
    ("input_layernorm", "attn_norm", |c| vec![hidden(c)], Layout::AsIs),
    ("post_attention_layernorm", "ffn_norm", |c| vec![hidden(c)], Layout::AsIs),
];

fn hidden(c: &Config) -> u64 {
    u64::from(c.hidden_size)
}

fn ffn(c: &Config) -> u64 {
    u64::from(c.intermediate_size)
}

/// Returns the rows of all query heads.
fn heads(c: &Config) -> u64 {
    u64::from(c.num_attention_heads) * u64::from(c.head_dim)
}

/// Returns the rows of all key (or value) heads.
fn kv_heads(c: &Config) -> u64 {
    u64::from(c.num_key_value_heads) * u64::from(c.head_dim)
}

/// Returns the numbers by which llama.cpp chooses tensor types.
pub(crate) fn model_shape(config: &Config) -> ModelShape {
    ModelShape {
        n_embd: config.hidden_size,
        n_ff: config.intermediate_size,
        n_layer: config.num_hidden_layers,
        n_head: config.num_attention_heads,
        n_head_kv: config.num_key_value_heads,
        head_dim: config.head_dim,
    }
}

/// Returns all tensors of the model in llama.cpp's order: those outside the layers first, then layer by layer, sorted
/// by name (its quantizer counts layers in that order). Tied models have no output matrix.
pub(crate) fn expected(config: &Config) -> Vec<ExpectedTensor> {
    let vocab = u64::from(config.vocab_size);
    let outside = |source: &str, name: &str, shape| ExpectedTensor {
        hf_name: format!("{source}.weight"),
        name: format!("{name}.weight"),
        shape,
        layout: Layout::AsIs,
    };
    let mut all = Vec::new();
    if !config.tie_word_embeddings {
        all.push(outside("lm_head", "output", vec![vocab, hidden(config)]));
    }
    all.push(outside("model.norm", "output_norm", vec![hidden(config)]));
    all.push(outside("model.embed_tokens", "token_embd", vec![vocab, hidden(config)]));
    let mut layer = LAYER;
    layer.sort_by_key(|(_, name, ..)| *name);
    for i in 0..config.num_hidden_layers {
        all.extend(layer.iter().map(|(source, name, shape, layout)| ExpectedTensor {
            hf_name: format!("model.layers.{i}.{source}.weight"),
            name: format!("blk.{i}.{name}.weight"),
            shape: shape(config),
            layout: *layout,
        }));
    }
    all
}

/// Returns the row of the checkpoint that becomes row `row` of the GGUF tensor: the inverse of
/// `reshape(heads, 2, head_dim/2).swapaxes(1, 2)` in llama.cpp's converter.
pub(crate) fn rotary_source_row(row: usize, head_dim: usize) -> usize {
    let (head, within) = (row / head_dim, row % head_dim);
    head * head_dim + (within % 2) * (head_dim / 2) + within / 2
}

#[cfg(test)]
mod tests {
    use super::rotary_source_row;

    #[test]
    fn interleaves_the_halves_of_a_head() {
        let rows: Vec<usize> = (0..16).map(|row| rotary_source_row(row, 8)).collect();
        assert_eq!(rows, [0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15]);
    }
}
