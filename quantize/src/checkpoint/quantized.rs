//! Recognizes checkpoints that are already quantized or contain an unmerged LoRA adapter. Otherwise the error would
//! only name an unknown type or tensor.

use super::config::ConfigExtras;
use super::shard::SourceTensor;
use crate::error::{Code, Error, Result};
use std::path::Path;

/// How to fix it.
pub(super) const FIX: &str =
    "start from the model's unquantized weights, or dequantize it (model.dequantize() of Transformers) and save that";
/// Suffixes of the tensors that quantizers store in addition to a weight.
const PARTS: [&str; 11] = [
    ".qweight",
    ".qzeros",
    ".scales",
    ".g_idx",
    ".weight_scale",
    ".weight_scale_inv",
    ".weight_packed",
    ".input_scale",
    ".SCB",
    ".weight_format",
    ".absmax",
];

/// Adds the quantization method in config.json to an error about a tensor's type.
pub(super) fn explain(err: Error, extras: &ConfigExtras) -> Error {
    match (&extras.quantized, err.code) {
        (Some(how), Code::StDtype | Code::TorchDtype) => {
            let what = format!("{} (config.json: quantized by {how})", err.what);
            Error { what, fix: FIX.to_owned(), ..err }
        }
        _ => err,
    }
}

/// Rejects parts of quantized weights and unmerged adapters.
pub(super) fn check(dir: &Path, tensors: &[SourceTensor], extras: &ConfigExtras) -> Result<()> {
    let part = |t: &&SourceTensor| PARTS.iter().any(|end| t.name.ends_with(end)) || t.name.contains(".absmax");
    if let Some(t) = tensors.iter().find(part) {
        let how = extras.quantized.as_deref().unwrap_or("a method that config.json does not name");
        let what = format!("tensor '{}' is part of a quantized weight ({how})", t.name);
        return Err(Error::new(Code::Requantize, dir, what, FIX));
    }
    let adapter = |t: &&SourceTensor| [".base_layer.", ".lora_A.", ".lora_B."].iter().any(|p| t.name.contains(p));
    if let Some(t) = tensors.iter().find(adapter) {
        let what = format!("tensor '{}' is of a LoRA adapter that was not merged", t.name);
        let fix = "merge it (peft's merge_and_unload), save the result, and convert that";
        return Err(Error::new(Code::Architecture, dir, what, fix));
    }
    Ok(())
}
