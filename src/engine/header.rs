//! The pre-flight check of a GGUF's header. llama.cpp aborts the process on several of these lies, and gives no reason
//! for others; that offsets, sizes and strings are sound is checked by `tulu_quantize::gguf` before.

use super::Token;
use super::memory::Shape;
use super::vocab::{Rules, Spaces};
use crate::error::Failure;
use llama_ext::GgmlType;
use std::collections::HashSet;
use std::path::Path;
use tulu_quantize::gguf::{Array, Gguf, Value};

/// Blocks that llama.cpp has room for.
const N_LAYER_MAX: u32 = 512;

/// Reads the header of the file at `path` and refuses what is not a sound LLaMA model. Also says the type that takes the
/// most bytes of its weights.
pub(super) fn check(path: &Path) -> Result<(Shape, GgmlType), Failure> {
    let gguf = Gguf::open(path)?;
    let shape = shape(&gguf).and_then(|shape| vocabulary(&gguf, shape.n_vocab).map(|()| shape)).map_err(|what| {
        Failure::input("MODEL", what, "tulu-quant runs LLaMA models such as Tulu; convert the checkpoint again")
            .at(path)
    })?;
    let bytes = |kind: GgmlType| gguf.tensors.iter().filter(|t| t.kind == kind).map(|t| t.bytes).sum::<u64>();
    let kind = gguf.tensors.iter().map(|tensor| tensor.kind).max_by_key(|kind| bytes(*kind));
    Ok((shape, kind.unwrap_or(GgmlType::F16)))
}

/// What the file says of its tokens under keys of our own (docs/metadata.md), for which llama.cpp has none.
pub(super) fn rules(path: &Path) -> Result<Rules, Failure> {
    let gguf = Gguf::open(path)?;
    let text = |key: &str| gguf.str(&format!("tulu_quant.tokenizer.{key}"));
    let ends = text("end_token_ids").unwrap_or_default().split(',');
    let spaces = match text("prefix_space") {
        Some("first") => Some(Spaces::First),
        Some("never") => Some(Spaces::Never),
        _ => None,
    };
    Ok(Rules { ends: ends.filter_map(|id| id.trim().parse().ok().map(Token::new)).collect(), spaces })
}

fn shape(gguf: &Gguf) -> Result<Shape, String> {
    for (key, wanted) in [("general.architecture", "llama"), ("tokenizer.ggml.model", "llama")] {
        match gguf.str(key) {
            Some(found) if found == wanted => {}
            found => return Err(format!("{key} is {}, not {wanted}", found.unwrap_or("missing"))),
        }
    }
    let number = |key: &str| match gguf.get(key) {
        Some(Value::U32(n)) if *n > 0 => Ok(*n),
        Some(other) => Err(format!("{key} is {other}")),
        None => Err(format!("{key} is missing")),
    };
    let or = |key: &str, default: u32| gguf.get(key).map_or(Ok(default), |_| number(key));

    let n_layer = number("llama.block_count")?;
    if n_layer > N_LAYER_MAX {
        return Err(format!("llama.block_count is {n_layer}; llama.cpp has room for {N_LAYER_MAX}"));
    }
    let (n_embd, n_head) = (number("llama.embedding_length")?, number("llama.attention.head_count")?);
    let n_head_kv = or("llama.attention.head_count_kv", n_head)?;
    if n_embd % n_head != 0 || n_head % n_head_kv != 0 {
        return Err(format!("{n_head} heads and {n_head_kv} key-value heads do not divide {n_embd} values"));
    }
    let head_dim = n_embd / n_head;
    for key in ["llama.rope.dimension_count", "llama.attention.key_length", "llama.attention.value_length"] {
        let found = or(key, head_dim)?;
        if found != head_dim {
            return Err(format!("{key} is {found}, the heads have {head_dim} values"));
        }
    }
    let n_ctx_train = number("llama.context_length")?;
    number("llama.feed_forward_length")?;
    for key in ["llama.expert_count", "split.count"] {
        if gguf.get(key).is_some_and(|value| value.as_u64().is_none_or(|n| n > 1)) {
            return Err(format!("{key} is set: mixtures of experts and split files are not run"));
        }
    }
    let n_vocab = match gguf.get("tokenizer.ggml.tokens") {
        Some(Value::Array(Array::Str(tokens))) => u32::try_from(tokens.len()).map_err(|err| err.to_string())?,
        _ => return Err("tokenizer.ggml.tokens is missing".to_owned()),
    };
    let weights = gguf.tensors.iter().map(|tensor| tensor.bytes).sum();
    Ok(Shape { n_layer, n_embd, n_head, n_head_kv, head_dim, n_vocab, n_ctx_train, weights })
}

/// What llama.cpp's tokenizer relies on without looking.
fn vocabulary(gguf: &Gguf, n_vocab: u32) -> Result<(), String> {
    let Some(Value::Array(Array::Str(tokens))) = gguf.get("tokenizer.ggml.tokens") else { return Ok(()) };
    let mut seen = HashSet::with_capacity(tokens.len());
    if let Some(bad) =
        tokens.iter().find(|token| token.is_empty() || token.contains('\0') || !seen.insert(token.as_str()))
    {
        return Err(format!("tokenizer.ggml.tokens has an empty, repeated or impossible token '{bad}'"));
    }
    if let Some(byte) = (0..=255_u8).find(|byte| !seen.contains(format!("<0x{byte:02X}>").as_str())) {
        return Err(format!("tokenizer.ggml.tokens has no token for the byte 0x{byte:02X}"));
    }
    let len = |key: &str| match gguf.get(key) {
        Some(Value::Array(array @ (Array::F32(_) | Array::I32(_)))) => Some(array.len()),
        _ => None,
    };
    for key in ["tokenizer.ggml.scores", "tokenizer.ggml.token_type"] {
        if len(key) != Some(tokens.len()) {
            return Err(format!("{key} does not have one entry for each of the {n_vocab} tokens"));
        }
    }
    for key in ["tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id"] {
        if !matches!(gguf.get(key), Some(Value::U32(id)) if *id < n_vocab) {
            return Err(format!("{key} is missing or not one of the {n_vocab} tokens"));
        }
    }
    Ok(())
}
