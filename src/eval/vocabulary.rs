//! The identity of a vocabulary: only distributions over the same tokens can be compared.

use crate::error::{Code, Failure};
use std::path::Path;
use tulu_quantize::gguf::{Array, Gguf, Value};

/// Returns the tokens of the GGUF file at `path`, in the order of their ids.
///
/// # Errors
/// `MODEL` when it has none.
pub(crate) fn vocabulary(path: &Path) -> Result<Vec<String>, Failure> {
    match Gguf::open(path)?.get("tokenizer.ggml.tokens") {
        Some(Value::Array(Array::Str(tokens))) => Ok(tokens.clone()),
        _ => Err(Failure::input(Code::Model, "tokenizer.ggml.tokens is missing", "give a whole model").at(path)),
    }
}
