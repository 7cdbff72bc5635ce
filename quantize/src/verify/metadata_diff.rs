//! Compares the metadata of a GGUF file with that of its source: the numbers of the model and the vocabulary.

use crate::gguf::{Array, Value};
use std::collections::{HashMap, HashSet};

/// Whether the key changes the model's computation. Names, licences, sampling defaults, provenance and the mix of types
/// do not change it.
fn is_compared(key: &str) -> bool {
    match key.split_once('.') {
        Some(("general", rest)) => matches!(rest, "architecture" | "type" | "quantization_version"),
        Some(("llama" | "tokenizer", _)) => true,
        Some(("tulu_quant", rest)) => rest.starts_with("tokenizer."),
        _ => false,
    }
}

/// Whether a missing `key` has the same effect as `value`: `value` is llama.cpp's default, or llama.cpp does not need
/// the key.
fn is_default(key: &str, value: &Value, all: &[(String, Value)]) -> bool {
    let number = |key: &str| all.iter().find(|(k, _)| k == key).and_then(|(_, value)| value.as_u64());
    let heads = number("llama.attention.head_count");
    let per_head = number("llama.embedding_length").zip(heads).and_then(|(n, heads)| n.checked_div(heads));
    match key {
        "llama.attention.head_count_kv" => value.as_u64() == heads,
        "llama.attention.key_length" | "llama.attention.value_length" | "llama.rope.dimension_count" => {
            value.as_u64() == per_head
        }
        "llama.rope.freq_base" => matches!(value, Value::F32(base) if *base == 10_000.0),
        "llama.rope.scaling.type" => value.as_str() == Some("none"),
        "llama.expert_count" | "llama.expert_used_count" => value.as_u64() == Some(0),
        "llama.vocab_size" | "general.type" | "tokenizer.ggml.padding_token_id" => true,
        "llama.rope.scaling.finetuned" | "tokenizer.ggml.add_sep_token" | "tokenizer.ggml.add_eos_token" => {
            *value == Value::Bool(false)
        }
        "tokenizer.ggml.add_bos_token" | "tokenizer.ggml.add_space_prefix" => *value == Value::Bool(true),
        "tokenizer.ggml.unknown_token_id" => value.as_u64() == Some(0),
        "tokenizer.ggml.pre" => value.as_str() == Some("default"),
        "tokenizer.huggingface.json" => true,
        _ => false,
    }
}

/// Describes the differences between the pairs of `file` and those of its `source`.
pub(super) fn differences(file: &[(String, Value)], source: &[(String, Value)]) -> Vec<String> {
    let (have, wanted): (HashMap<_, _>, HashMap<_, _>) =
        (file.iter().map(|(k, v)| (k, v)).collect(), source.iter().map(|(k, v)| (k, v)).collect());
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    for (key, _) in source.iter().chain(file).filter(|(key, _)| is_compared(key)) {
        if !seen.insert(key) {
            continue;
        }
        match (have.get(key), wanted.get(key)) {
            (Some(a), Some(b)) if same(a, b) => {}
            (Some(a), Some(b)) => all.push(format!("{key} {}", unlike(a, b))),
            (Some(a), None) if !is_default(key, a, file) => {
                all.push(format!("{key} is {}, the source has no such key", short(&a.to_string())));
            }
            // files that other programs wrote do not have this program's keys
            (None, Some(b)) if !is_default(key, b, source) && !key.starts_with("tulu_quant.") => {
                all.push(format!("{key} is missing, the source has {}", short(&b.to_string())));
            }
            _ => {}
        }
    }
    all
}

/// Whether two values are equal; integers of different types can be.
fn same(a: &Value, b: &Value) -> bool {
    a == b || a.as_u64().is_some() && a.as_u64() == b.as_u64()
}

/// Describes the difference of two values.
fn unlike(a: &Value, b: &Value) -> String {
    let place = match (a, b) {
        (Value::Array(Array::Str(a)), Value::Array(Array::Str(b))) => first_unlike(a, b),
        (Value::Array(Array::F32(a)), Value::Array(Array::F32(b))) => first_unlike(a, b),
        (Value::Array(Array::I32(a)), Value::Array(Array::I32(b))) => first_unlike(a, b),
        _ => None,
    };
    place.unwrap_or_else(|| format!("is {}, the source has {}", short(&a.to_string()), short(&b.to_string())))
}

/// Describes the first difference of two arrays.
fn first_unlike<T: PartialEq + std::fmt::Debug>(a: &[T], b: &[T]) -> Option<String> {
    if a.len() != b.len() {
        return Some(format!("has {} elements, the source has {}", a.len(), b.len()));
    }
    let (at, (a, b)) = a.iter().zip(b).enumerate().find(|(_, (a, b))| a != b)?;
    Some(format!("has {} at {at}, the source has {}", short(&format!("{a:?}")), short(&format!("{b:?}"))))
}

/// Truncates text to fit on a line.
fn short(text: &str) -> String {
    const LEN: usize = 60;
    let cut: String = text.chars().take(LEN).collect();
    if cut.len() < text.len() { cut + "…" } else { cut }
}
