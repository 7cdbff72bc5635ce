//! Facts about a GGUF file that both the text and the JSON output of `inspect` contain.

use crate::engine::{CacheType, ModelDims};
use tulu_quantize::Ftype;
use tulu_quantize::checkpoint::Config;
use tulu_quantize::gguf::Gguf;

/// Returns the name of the file type in the metadata, `?` if there is none.
pub(super) fn type_name(gguf: &Gguf) -> &'static str {
    gguf.u32("general.file_type").and_then(Ftype::from_id).map_or("?", Ftype::name)
}

/// Returns the numbers that memory use depends on. `Err`: the reason why they are unknown. `Ok(None)`: not a LLaMA
/// model.
pub(super) fn shape(gguf: &Gguf) -> Result<Option<ModelDims>, String> {
    if gguf.str("general.architecture") != Some("llama") {
        return Ok(None);
    }
    Config::from_gguf(gguf).map(|config| Some(ModelDims::of(&config, gguf.tensor_bytes())))
}

/// Returns the bytes of the keys and values of one token over all layers, in f16.
pub(super) fn kv_bytes_per_token(shape: &ModelDims) -> u64 {
    shape.kv_bytes_per_cell(CacheType::F16, CacheType::F16)
}
