//! Checks the header of a GGUF file before llama.cpp loads it. For some malformed headers llama.cpp aborts the process,
//! and for others it gives no reason. `tulu_quantize::gguf` has already checked offsets, sizes and strings.

#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::as_conversions))]

use super::Token;
use super::model_dims::ModelDims;
use super::vocab::{Rules, Spaces};
use crate::error::{Code, Failure};
use llama_ext::GgmlType;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use tulu_quantize::checkpoint::Config;
use tulu_quantize::gguf::{Array, Gguf, Value};
use tulu_quantize::table_problems;

/// Alignment of a tensor in memory, in bytes. llama.cpp aborts if a tensor has another one.
const TENSOR_ALIGNMENT: u64 = 32;

/// The information in the header of a valid model.
pub(super) struct Preflight {
    /// The dimensions.
    pub(super) dims: ModelDims,
    /// The type of most tensor bytes.
    pub(super) main_type: GgmlType,
    /// Rules of the tokenizer.
    pub(super) rules: Rules,
}

/// Checks the header of the file at `path`; it is an error (`MODEL`) if this is not a valid LLaMA model.
pub(super) fn check(path: &Path) -> Result<Preflight, Failure> {
    let gguf = Gguf::open(path)?;
    let dims = dims(&gguf)
        .and_then(|dims| vocabulary(&gguf, dims.n_vocab).map(|()| dims))
        .and_then(|dims| tensors(&gguf).map(|()| dims))
        .map_err(|what| unsound(path, what))?;
    Ok(Preflight { dims, main_type: main_type(&gguf), rules: rules(&gguf) })
}

/// Checks the vocabulary of the file at `path`. Its tensors are not checked, because a file may contain only a
/// vocabulary.
pub(super) fn check_vocabulary(path: &Path) -> Result<Rules, Failure> {
    let gguf = Gguf::open(path)?;
    let checked = dims(&gguf).and_then(|dims| vocabulary(&gguf, dims.n_vocab));
    checked.map_err(|what| unsound(path, what)).map(|()| rules(&gguf))
}

fn unsound(path: &Path, what: String) -> Failure {
    Failure::input(Code::Model, what, "tulu-quant runs LLaMA models such as Tulu; convert the checkpoint again")
        .at(path)
}

/// Returns the type of most tensor bytes; for equal numbers of bytes, the type with the smaller id.
fn main_type(gguf: &Gguf) -> GgmlType {
    let mut bytes: HashMap<GgmlType, u64> = HashMap::new();
    for tensor in &gguf.tensors {
        let sum = bytes.entry(tensor.ggml_type).or_default();
        *sum = sum.saturating_add(tensor.bytes);
    }
    let most = bytes.into_iter().max_by_key(|(kind, bytes)| (*bytes, std::cmp::Reverse(kind.id())));
    most.map_or(GgmlType::F16, |(kind, _)| kind)
}

/// Reads our own keys about tokens (docs/metadata.md), which llama.cpp does not have.
fn rules(gguf: &Gguf) -> Rules {
    let text = |key: &str| gguf.str(&format!("tulu_quant.tokenizer.{key}"));
    let ends = text("end_token_ids").unwrap_or_default().split(',');
    let spaces = match text("prefix_space") {
        Some("first") => Some(Spaces::First),
        Some("never") => Some(Spaces::Never),
        _ => None,
    };
    Rules { ends: ends.filter_map(|id| id.trim().parse().ok().map(Token::new)).collect(), spaces }
}

fn dims(gguf: &Gguf) -> Result<ModelDims, String> {
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
    Ok(ModelDims::of(&config, gguf.tensor_bytes()))
}

/// Checks the assumptions of llama.cpp's kernels: vectors are F32, matrices have a type that llama.cpp can multiply,
/// and every tensor is aligned.
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
            let at = format!("is at byte {} (general.alignment {alignment})", t.offset);
            return Err(format!("tensor '{name}' {at}, and llama.cpp reads at multiples of {TENSOR_ALIGNMENT}"));
        }
    }
    Ok(())
}

/// Checks the assumptions of llama.cpp's tokenizer.
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
