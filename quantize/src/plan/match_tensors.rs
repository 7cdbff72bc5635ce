//! Matches the tensors of a checkpoint with those that the model must have.

use super::planned_tensor::PlannedTensor;
use crate::checkpoint::{Checkpoint, SourceTensor, is_unused_tensor};
use crate::error::{Code, Error, Result};
use crate::llama_tensors::{self, ExpectedTensor, Layout};
use std::collections::HashMap;
use std::path::Path;

/// Matches the expected tensors with the checkpoint's; missing, extra or misshaped tensors are errors. Also returns the
/// names of the tensors that are left out.
pub(super) fn match_tensors(source: &Checkpoint) -> Result<(Vec<PlannedTensor>, Vec<String>)> {
    let mut have: HashMap<&str, usize> = HashMap::new();
    let (mut skipped, mut unknown) = (Vec::new(), Vec::new());
    for (i, t) in source.tensors.iter().enumerate() {
        if is_unused_tensor(&t.name) {
            skipped.push(t.name.clone());
        } else {
            have.insert(&t.name, i);
        }
    }
    let place = |t: &SourceTensor| source.shards.get(t.shard).map_or(source.dir.as_path(), |s| s.path.as_path());
    let mut planned = Vec::new();
    for (is_optional, known) in wanted(source) {
        let Some(i) = have.remove(known.hf_name.as_str()) else {
            if is_optional {
                continue;
            }
            let what = format!("tensor '{}' is missing", known.hf_name);
            return Err(Error::new(Code::TensorMissing, &source.dir, what, missing_fix(source, &known.hf_name)));
        };
        let t = &source.tensors[i];
        if t.shape != known.shape {
            return Err(wrong_shape(source, place(t), t, &known.shape));
        }
        let dims = known.shape.iter().rev().copied().collect();
        planned.push(PlannedTensor { name: known.name, dims, source: i, source_bytes: t.bytes, layout: known.layout });
    }
    // a tied checkpoint may still have the output matrix, as a copy of the embedding
    let tied = source.config.tie_word_embeddings;
    for (name, i) in have {
        if tied && name == "lm_head.weight" { skipped.push(name.to_owned()) } else { unknown.push(i) }
    }
    skipped.extend(source.shards.iter().flat_map(|s| s.unused_tensors.iter().cloned()));
    unknown.sort_unstable();
    if let Some(t) = unknown.first().map(|i| &source.tensors[*i]) {
        let what = format!("unexpected tensor '{}' ({} in total)", t.name, unknown.len());
        return Err(Error::new(Code::TensorUnknown, place(t), what, "only plain LLaMA checkpoints are supported"));
    }
    Ok((planned, skipped))
}

/// Returns the tensors under the names that `source` has for them, and whether each is optional.
fn wanted(source: &Checkpoint) -> Vec<(bool, ExpectedTensor)> {
    let all = llama_tensors::expected(&source.config);
    if source.copied_metadata.is_none() {
        return all.into_iter().map(|known| (false, known)).collect();
    }
    let in_gguf = |known: ExpectedTensor| ExpectedTensor { hf_name: known.name.clone(), layout: Layout::AsIs, ..known };
    let rope = llama_tensors::rope_freqs(&source.config);
    [(true, rope)].into_iter().chain(all.into_iter().map(|known| (false, in_gguf(known)))).collect()
}

/// Returns how to fix a missing tensor; it depends on the existing names.
fn missing_fix(source: &Checkpoint, name: &str) -> String {
    if name == "lm_head.weight" && source.tensors.iter().any(|t| t.name == "model.embed_tokens.weight") {
        return "the model was saved without its output matrix (as a LlamaModel): save it as LlamaForCausalLM"
            .to_owned();
    }
    let mut names = source.tensors.iter().map(|t| t.name.as_str());
    let first = names.next().unwrap_or_default();
    let common = names.fold(first, |common, name| {
        let n = common.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
        common.get(..n).unwrap_or_default()
    });
    match common.rsplit_once('.') {
        Some((prefix, _)) if prefix != "model" && !source.tensors.is_empty() => {
            format!("all tensor names begin with '{prefix}.', unlike those of a LLaMA model: rename the tensors")
        }
        _ => "the checkpoint is incomplete, or config.json is of another model".to_owned(),
    }
}

/// The error for a tensor with another shape than config.json gives. For the embedding and the output matrix, the usual
/// cause is a resized vocabulary.
fn wrong_shape(source: &Checkpoint, place: &Path, t: &SourceTensor, wanted: &[u64]) -> Error {
    let by_vocabulary = ["model.embed_tokens.weight", "lm_head.weight"].contains(&t.name.as_str());
    let (what, fix) = match (t.shape.as_slice(), wanted) {
        ([rows, columns], [_, width]) if by_vocabulary && columns == width && source.copied_metadata.is_none() => (
            format!("tensor '{}' has {rows} rows, vocab_size in config.json is {}", t.name, source.config.vocab_size),
            "the vocabulary was resized: take config.json, tokenizer files and weights of one save",
        ),
        (shape, _) => (
            format!("tensor '{}' has shape {shape:?}, config.json gives {wanted:?}", t.name),
            "take config.json and weights of one repository",
        ),
    };
    Error::new(Code::TensorShape, place, what, fix)
}
