//! Assigns the entries of the importance matrix to the tensors, and warns about options without effect.

use super::planned_tensor::PlannedTensor;
use crate::checkpoint::Checkpoint;
use crate::error::{Code, Error, Result};
use crate::quantize_options::QuantizeOptions;
use std::path::Path;

/// Returns the importance of the columns for each tensor. As in llama-quantize, a tensor without an entry is quantized
/// without importance. It is an error if an entry has another length (except for the embedding) or if no entry matches:
/// the imatrix then belongs to another model.
pub(super) fn importance(
    source: &Checkpoint,
    tensors: &[PlannedTensor],
    options: &QuantizeOptions,
) -> Result<Vec<Option<Vec<f32>>>> {
    let Some(imatrix) = &options.imatrix else { return Ok(vec![None; tensors.len()]) };
    let is_used = |t: &PlannedTensor| t.dims.len() > 1 && imatrix.entries.contains_key(&t.name);
    if !tensors.iter().any(is_used) {
        let first = imatrix.entries.keys().next().map_or("", String::as_str);
        let count = imatrix.entries.len();
        let what = format!("has {count} entries and none for a tensor of this model (the first is '{first}')");
        let fix = format!("give the importance matrix of {}", source.name());
        return Err(Error::new(Code::Imatrix, Path::new(&imatrix.file), what, fix));
    }
    tensors
        .iter()
        .map(|t| match imatrix.entries.get(&t.name).filter(|_| t.dims.len() > 1) {
            Some(weights) if weights.len() as u64 == t.n_per_row() => Ok(Some(weights.clone())),
            Some(weights) if t.name != "token_embd.weight" => {
                let what = format!("has {} weights for '{}', whose rows have {}", weights.len(), t.name, t.n_per_row());
                let fix = format!("give the importance matrix of {}", source.name());
                Err(Error::new(Code::Imatrix, Path::new(&imatrix.file), what, fix))
            }
            _ => Ok(None),
        })
        .collect()
}

/// Returns warnings about options without effect.
pub(super) fn notes(tensors: &[PlannedTensor], options: &QuantizeOptions) -> Vec<String> {
    let mut notes = Vec::new();
    let matrices: Vec<&str> = tensors.iter().filter(|t| t.dims.len() > 1).map(|t| t.name.as_str()).collect();
    if let Some(imatrix) = &options.imatrix {
        // llama-imatrix collects nothing for the embedding, and for the output matrix only with --process-output
        let expected = matrices.iter().filter(|name| !matches!(**name, "token_embd.weight" | "output.weight"));
        let without: Vec<&str> = expected.copied().filter(|name| !imatrix.entries.contains_key(*name)).collect();
        if !without.is_empty() {
            notes.push(format!(
                "{} has no entry for {} of {} matrices, which are quantized without importance: {}",
                imatrix.file,
                without.len(),
                matrices.len(),
                some(&without)
            ));
        }
        let keys = imatrix.entries.keys().map(String::as_str);
        let unused: Vec<&str> = keys.filter(|name| !matrices.contains(name)).collect();
        if !unused.is_empty() {
            let count = unused.len();
            notes.push(format!(
                "{} has {count} entries that match no matrix of this model: {}",
                imatrix.file,
                some(&unused)
            ));
        }
    }
    for (pattern, ggml_type) in &options.overrides {
        // invalid patterns were rejected when the types were chosen
        if llama_ext::pattern_finds(pattern, &matrices).is_ok_and(|found| found == 0) {
            notes.push(format!("the pattern '{pattern}' of type {ggml_type} matches no matrix, so it has no effect"));
        }
    }
    notes
}

/// Joins the first names of a list.
fn some(names: &[&str]) -> String {
    let more = if names.len() > 3 { ", …" } else { "" };
    names.iter().take(3).copied().collect::<Vec<_>>().join(", ") + more
}
