//! Checks the header of a GGUF file before llama.cpp loads it. For some malformed headers llama.cpp aborts the process,
//! and for others it gives no reason. `tulu_quantize::gguf` has already checked offsets, sizes and strings.

#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::as_conversions))]

use super::model_dims::ModelDims;
use super::tensor_sizes::TensorSizes;
use super::vocab::Rules;
use super::vocab_preflight;
use crate::error::{Code, Failure};
use llama_ext::GgmlType;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tulu_quantize::checkpoint::Config;
use tulu_quantize::gguf::{Array, Gguf, Value, first_part};
use tulu_quantize::table_problems;

/// Alignment of a tensor in memory, in bytes. llama.cpp aborts if a tensor has another one.
const TENSOR_ALIGNMENT: u64 = 32;

/// The information in the header of a valid model.
pub(super) struct Preflight {
    /// The dimensions.
    pub(super) dims: ModelDims,
    /// The bytes of the tensors by layer.
    pub(super) sizes: TensorSizes,
    /// The type of most tensor bytes.
    pub(super) main_type: GgmlType,
    /// Rules of the tokenizer.
    pub(super) rules: Rules,
    /// The file to load: the first part of a split file.
    pub(super) path: PathBuf,
}

/// Checks the header of the file at `path`, or of all parts of a split file; it is an error (`MODEL`) if this is not a
/// valid LLaMA model.
pub(super) fn check(path: &Path) -> Result<Preflight, Failure> {
    let gguf = Gguf::open_all_parts(path)?;
    let checked = dims(&gguf).and_then(|dims| {
        let rules = vocab_preflight::check(&gguf, dims.n_vocab)?;
        tensors(&gguf).map(|()| (dims, rules))
    });
    let (dims, rules) = checked.map_err(|what| unsound(path, what))?;
    let sizes = TensorSizes::of(&gguf, &dims);
    Ok(Preflight { dims, sizes, main_type: main_type(&gguf), rules, path: gguf.path })
}

/// Checks the vocabulary of the file at `path`. Its tensors are not checked, because a file may contain only a
/// vocabulary. Returns the path of the file that has the vocabulary: the first part of a split file.
pub(super) fn check_vocabulary(path: &Path) -> Result<(PathBuf, Rules), Failure> {
    let gguf = Gguf::open(&first_part(path)?)?;
    let checked = dims(&gguf).and_then(|dims| vocab_preflight::check(&gguf, dims.n_vocab));
    let rules = checked.map_err(|what| unsound(path, what))?;
    Ok((gguf.path, rules))
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

fn dims(gguf: &Gguf) -> Result<ModelDims, String> {
    match gguf.str("general.architecture") {
        Some("llama") => {}
        found => return Err(format!("general.architecture is {}, not llama", found.unwrap_or("missing"))),
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
