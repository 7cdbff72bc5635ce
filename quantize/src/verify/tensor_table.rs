//! Compares the tensors of a LLaMA model's GGUF file with those that its own header asks for.

use crate::checkpoint::Config;
use crate::gguf::Gguf;
use crate::llama_tensors;
use std::collections::HashMap;

/// Missing or misshapen tensors that are named one by one.
const NAMED: usize = 5;

/// What is wrong with the table of tensors of a LLaMA model's file: those that are missing, have a shape that the header's
/// numbers do not give, or are none that the architecture has. The engine refuses a file for the first of them.
///
/// # Errors
/// What [`Config::from_gguf`] says: then no table can be asked for.
pub fn table_problems(gguf: &Gguf) -> Result<Vec<String>, String> {
    let config = Config::from_gguf(gguf)?;
    let mut have: HashMap<&str, Vec<u64>> = gguf.tensors.iter().map(|t| (t.name.as_str(), shape(&t.dims))).collect();
    let (mut missing, mut problems) = (Vec::new(), Vec::new());
    for known in llama_tensors::table(&config) {
        match have.remove(known.name.as_str()) {
            None => missing.push(format!("tensor '{}' is missing", known.name)),
            Some(shape) if shape != known.shape => problems.push(format!(
                "tensor '{}' has {} rows × columns, the header's numbers make it {}",
                known.name,
                dimensions(&shape),
                dimensions(&known.shape)
            )),
            Some(_) => {}
        }
    }
    problems.splice(0..0, missing);
    let mut surplus: Vec<&str> = have.into_keys().filter(|name| !may_be_there(name, &config)).collect();
    surplus.sort_unstable();
    problems.extend(surplus.iter().map(|name| format!("tensor '{name}' is none that this model has")));
    Ok(shortened(problems))
}

/// Rows × columns of a matrix, one number for a vector; ggml takes dimensions of 1 at the end as not there.
fn shape(dims: &[u64]) -> Vec<u64> {
    let more = dims.iter().skip(1).rev().take_while(|n| **n == 1).count();
    dims.iter().take(dims.len().saturating_sub(more)).rev().copied().collect()
}

/// Tensors that some LLaMA models have besides: rotary frequencies and biases.
fn may_be_there(name: &str, config: &Config) -> bool {
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

/// The first few, and how many more there are.
pub(super) fn shortened(mut problems: Vec<String>) -> Vec<String> {
    let more = problems.len().saturating_sub(NAMED);
    if more > 1 {
        problems.truncate(NAMED);
        problems.push(format!("{more} more of this kind"));
    }
    problems
}
