//! The pre-flight check of a GGUF's header. llama.cpp aborts the process on several of these lies, and gives no reason
//! for others; that offsets, sizes and strings are sound is checked by `tulu_quantize::gguf` before.

#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::as_conversions))]

use super::Token;
use super::memory::Shape;
use super::vocab::{Rules, Spaces};
use crate::error::{Code, Failure};
use llama_ext::GgmlType;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use tulu_quantize::checkpoint::Config;
use tulu_quantize::gguf::{Array, Gguf, Value};
use tulu_quantize::table_problems;

/// Where llama.cpp wants a tensor's bytes to lie in memory; it aborts where they do not.
const TENSOR_ALIGNMENT: u64 = 32;

impl Shape {
    /// The numbers of a model with this configuration, whose tensors take `weights` bytes.
    pub(crate) fn of(config: &Config, weights: u64) -> Self {
        Self {
            n_layer: config.num_hidden_layers,
            n_embd: config.hidden_size,
            n_head: config.num_attention_heads,
            n_head_kv: config.num_key_value_heads,
            head_dim: config.head_dim,
            n_vocab: config.vocab_size,
            n_ctx_train: config.max_position_embeddings,
            weights,
        }
    }
}

/// Reads the header of the file at `path` and refuses what is not a sound LLaMA model. Also says the type that takes the
/// most bytes of its weights.
pub(super) fn check(path: &Path) -> Result<(Shape, GgmlType), Failure> {
    let gguf = Gguf::open(path)?;
    let shape = shape(&gguf)
        .and_then(|shape| vocabulary(&gguf, shape.n_vocab).map(|()| shape))
        .and_then(|shape| tensors(&gguf).map(|()| shape))
        .map_err(|what| not_run(path, what))?;
    let mut bytes: HashMap<GgmlType, u64> = HashMap::new();
    for tensor in &gguf.tensors {
        let sum = bytes.entry(tensor.ggml_type).or_default();
        *sum = sum.saturating_add(tensor.bytes);
    }
    // the smaller id where two take the same
    let kind = bytes.into_iter().max_by_key(|(kind, bytes)| (*bytes, std::cmp::Reverse(kind.id())));
    Ok((shape, kind.map_or(GgmlType::F16, |(kind, _)| kind)))
}

/// Refuses a file whose vocabulary is not sound. Its weights are not looked at: a file may be a vocabulary alone.
pub(super) fn check_vocabulary(path: &Path) -> Result<(), Failure> {
    let gguf = Gguf::open(path)?;
    shape(&gguf).and_then(|shape| vocabulary(&gguf, shape.n_vocab)).map_err(|what| not_run(path, what))
}

fn not_run(path: &Path, what: String) -> Failure {
    Failure::input(Code::Model, what, "tulu-quant runs LLaMA models such as Tulu; convert the checkpoint again")
        .at(path)
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
    if let Some((n, of)) = gguf.part()? {
        return Err(format!("is part {n} of {of} of a split file, which is not run: join the parts"));
    }
    for (key, wanted) in [("general.architecture", "llama"), ("tokenizer.ggml.model", "llama")] {
        match gguf.str(key) {
            Some(found) if found == wanted => {}
            found => return Err(format!("{key} is {}, not {wanted}", found.unwrap_or("missing"))),
        }
    }
    let n_vocab = match gguf.get("tokenizer.ggml.tokens") {
        Some(Value::Array(Array::Str(tokens))) => u32::try_from(tokens.len()).map_err(|err| err.to_string())?,
        _ => return Err("tokenizer.ggml.tokens is missing".to_owned()),
    };
    let config = Config::from_gguf(gguf)?;
    if config.vocab_size != n_vocab {
        return Err(format!(
            "tokenizer.ggml.tokens has {n_vocab} tokens, token_embd.weight {} rows",
            config.vocab_size
        ));
    }
    Ok(Shape::of(&config, gguf.tensor_bytes()))
}

/// What llama.cpp's kernels rely on without looking: vectors are added and multiplied as F32, matrices are of types that
/// it multiplies, and every tensor lies where its buffers may.
fn tensors(gguf: &Gguf) -> Result<(), String> {
    if let Some(problem) = table_problems(gguf)?.into_iter().next() {
        return Err(problem);
    }
    for t in &gguf.tensors {
        if !t.ggml_type.is_weights() || t.n_rows() == 1 && t.ggml_type != GgmlType::F32 {
            return Err(format!("tensor '{}' is {}, which llama.cpp does not compute with there", t.name, t.ggml_type));
        }
        if !t.offset.is_multiple_of(TENSOR_ALIGNMENT) {
            let (name, alignment) = (&t.name, gguf.alignment);
            let at = format!("lies at byte {} (general.alignment {alignment})", t.offset);
            return Err(format!("tensor '{name}' {at}, and llama.cpp reads at multiples of {TENSOR_ALIGNMENT}"));
        }
    }
    Ok(())
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
