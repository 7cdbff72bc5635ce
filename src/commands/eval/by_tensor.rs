//! `--by-tensor`: the candidates that have one group of tensors of a file, and all others of the base.

use super::candidates::Candidate;
use super::swap::{Swap, Whole, padded};
use crate::error::Failure;
use crate::eval::{GroupBy, TensorGroup, tensor_groups};
use std::collections::HashMap;
use std::path::Path;
use tulu_quantize::gguf::TensorInfo;

/// Adds the swaps of each file that is compared with the base. Their files will be in `folder`.
pub(super) fn add(candidates: &mut Vec<Candidate>, by: GroupBy, folder: &Path) -> Result<(), Failure> {
    let Some(base) = candidates.iter().find(|one| one.is_base).cloned() else { return Ok(()) };
    let files: Vec<Candidate> =
        candidates.iter().filter(|one| !one.is_base && one.variant.is_none()).cloned().collect();
    for file in files {
        candidates.extend(swaps(&base, &file.path, by, folder)?);
    }
    Ok(())
}

/// Returns a candidate for each group of tensors whose type differs between `base` and `file`.
pub(super) fn swaps(base: &Candidate, file: &Path, by: GroupBy, folder: &Path) -> Result<Vec<Candidate>, Failure> {
    let swap = |group: TensorGroup| {
        let smaller = |bytes: u64| bytes.saturating_sub(group.base_bytes).saturating_add(group.bytes);
        Candidate {
            path: folder.join("swapped.gguf"),
            is_base: false,
            bytes: smaller(base.bytes),
            tensor_bytes: smaller(base.tensor_bytes),
            swap: Some(Swap { group, from: file.to_owned() }),
            ..base.clone()
        }
    };
    Ok(groups(&base.path, file, by)?.into_iter().map(swap).collect())
}

/// Returns the groups of tensors whose type differs between two files.
pub(super) fn groups(base: &Path, file: &Path, by: GroupBy) -> Result<Vec<TensorGroup>, Failure> {
    let (base, file) = (Whole::open(base)?, Whole::open(file)?);
    let known: HashMap<&str, &TensorInfo> = file.tensors().map(|(_, tensor)| (tensor.name.as_str(), tensor)).collect();
    let pairs: Vec<(&TensorInfo, &TensorInfo)> =
        base.tensors().filter_map(|(_, tensor)| Some((tensor, *known.get(tensor.name.as_str())?))).collect();
    Ok(tensor_groups(&pairs, by, padded))
}
