//! Compares the tensors of a LLaMA model's GGUF file with those that its header's numbers require.

use crate::checkpoint::Config;
use crate::gguf::Gguf;
use crate::llama_tensors;
use std::collections::HashMap;

/// Maximum number of problems that are listed; the others are counted.
const NAMED: usize = 5;

/// Returns the problems of the tensor table of a LLaMA model's file: missing tensors, tensors with another shape than
/// the header's numbers give, and unknown tensors. The engine rejects a file with any of them.
///
/// # Errors
/// The error of [`Config::from_gguf`]: without a configuration the expected tensors are unknown.
pub fn table_problems(gguf: &Gguf) -> Result<Vec<String>, String> {
    let config = Config::from_gguf(gguf)?;
    let mut have: HashMap<&str, Vec<u64>> = gguf.tensors.iter().map(|t| (t.name.as_str(), shape(&t.dims))).collect();
    let (mut missing, mut problems) = (Vec::new(), Vec::new());
    for known in llama_tensors::expected(&config) {
        match have.remove(known.name.as_str()) {
            None => missing.push(format!("tensor '{}' is missing", known.name)),
            Some(shape) if shape != known.shape => problems.push(format!(
                "tensor '{}' has {} rows × columns, the header's numbers require {}",
                known.name,
                dimensions(&shape),
                dimensions(&known.shape)
            )),
            Some(_) => {}
        }
    }
    problems.splice(0..0, missing);
    let mut surplus: Vec<&str> = have.into_keys().filter(|name| !is_optional(name, &config)).collect();
    surplus.sort_unstable();
    problems.extend(surplus.iter().map(|name| format!("unexpected tensor '{name}'")));
    Ok(shortened(problems))
}

/// Returns rows × columns of a matrix, or the length of a vector. Like ggml, ignores trailing dimensions of 1.
fn shape(dims: &[u64]) -> Vec<u64> {
    let more = dims.iter().skip(1).rev().take_while(|n| **n == 1).count();
    dims.iter().take(dims.len().saturating_sub(more)).rev().copied().collect()
}

/// Whether the tensor is optional: rotary frequencies or biases, which some LLaMA models have.
fn is_optional(name: &str, config: &Config) -> bool {
    let of_layer = |rest: &str| {
        let (layer, what) = rest.split_once('.').unwrap_or_default();
        layer.parse().is_ok_and(|n: u32| n < config.num_hidden_layers)
            && (what.ends_with(".bias") || matches!(what, "rope_freqs.weight" | "attn_rot_embd.weight"))
    };
    matches!(name, "rope_freqs.weight" | "rope_factors_long.weight" | "rope_factors_short.weight")
        || name.strip_prefix("blk.").is_some_and(of_layer)
}

fn dimensions(shape: &[u64]) -> String {
    shape.iter().map(u64::to_string).collect::<Vec<_>>().join(" × ")
}

/// Keeps the first problems and counts the others.
pub(super) fn shortened(mut problems: Vec<String>) -> Vec<String> {
    let more = problems.len().saturating_sub(NAMED);
    if more > 1 {
        problems.truncate(NAMED);
        problems.push(format!("{more} more of this kind"));
    }
    problems
}
