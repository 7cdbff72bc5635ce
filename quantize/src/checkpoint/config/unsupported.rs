//! Rejects keys of config.json that change the computation and that a GGUF of the `llama` architecture, or the engine,
//! does not support. Transformers' `LlamaModel` reads no other such keys.

use super::fields::Fields;
use super::rope;
use crate::error::Result;
use serde_json::{Map, Value};

/// Rejects a model whose converted file would compute something else.
pub(super) fn check(fields: &Fields<'_>) -> Result<()> {
    match fields.json.get("hidden_act") {
        None | Some(Value::Null) => {}
        Some(Value::String(name)) if matches!(name.as_str(), "silu" | "swish") => {}
        Some(other) => {
            return Err(fields.bad(format!("hidden_act is {other}; only silu is supported")));
        }
    }
    for key in ["attention_bias", "mlp_bias"] {
        if fields.flag(key)? == Some(true) {
            return Err(fields.bad(format!("{key} is true; layers with biases are not supported")));
        }
    }
    match fields.json.get("partial_rotary_factor") {
        None | Some(Value::Null) => Ok(()),
        Some(factor) if factor.as_f64() == Some(1.0) => Ok(()),
        Some(factor) => Err(rope::partial(fields, factor)),
    }
}

/// Describes the method in `quantization_config`, such as `bitsandbytes, 4 bits`.
pub(super) fn quantization(json: &Map<String, Value>) -> Option<String> {
    let config = json.get("quantization_config").or_else(|| json.get("compression_config"))?.as_object()?;
    let method = config.get("quant_method").and_then(Value::as_str).unwrap_or("an unnamed method");
    let flag = |key: &str| config.get(key).and_then(Value::as_bool).unwrap_or(false);
    let bits = match config.get("bits").and_then(Value::as_u64) {
        Some(bits) => Some(bits),
        None if flag("load_in_4bit") || flag("_load_in_4bit") => Some(4),
        None if flag("load_in_8bit") || flag("_load_in_8bit") => Some(8),
        None => None,
    };
    Some(bits.map_or_else(|| method.to_owned(), |bits| format!("{method}, {bits} bits")))
}
