//! The chat template of a checkpoint: in tokenizer_config.json, else in chat_template.jinja or chat_template.json.
//! (llama.cpp's converter looks in the same places in the same order.)

use super::json;
use crate::error::{Code, Error, Result};
use serde_json::Value;
use std::path::Path;

/// Tulu's has 372 bytes; the longest published ones some 30 kB.
const MAX_BYTES: usize = 64 << 10;

/// The template's text, if the folder has one.
pub(crate) fn read(dir: &Path) -> Result<Option<String>> {
    let tokenizer_config = dir.join("tokenizer_config.json");
    if let Some(found) = of(&tokenizer_config)? {
        return Ok(Some(found));
    }
    let jinja = dir.join("chat_template.jinja");
    if jinja.exists() {
        let (_, len) = super::open_regular(&jinja)?;
        if len > MAX_BYTES as u64 {
            return Err(too_long(&jinja, len));
        }
        return std::fs::read_to_string(&jinja).map(Some).map_err(|err| Error::io(&jinja, "read the template", &err));
    }
    of(&dir.join("chat_template.json"))
}

/// `chat_template` of a JSON file: a string, or a list of named ones of which `default` is meant.
fn of(path: &Path) -> Result<Option<String>> {
    let Some(json) = json::read_optional(path)? else { return Ok(None) };
    let text = match json.get("chat_template") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text,
        Some(Value::Array(named)) => {
            let default = named.iter().find(|t| t.get("name").and_then(Value::as_str) == Some("default"));
            match default.and_then(|t| t.get("template")).and_then(Value::as_str) {
                Some(text) => return checked(path, text),
                None => return Err(bad(path, "chat_template is a list without one named 'default'")),
            }
        }
        Some(_) => return Err(bad(path, "chat_template is neither a string nor a list")),
    };
    checked(path, text)
}

fn checked(path: &Path, text: &str) -> Result<Option<String>> {
    if text.len() > MAX_BYTES { Err(too_long(path, text.len() as u64)) } else { Ok(Some(text.to_owned())) }
}

fn too_long(path: &Path, len: u64) -> Error {
    bad(path, &format!("the chat template has {len} bytes, more than {MAX_BYTES}"))
}

fn bad(path: &Path, what: &str) -> Error {
    Error::new(Code::Json, path, what, "compare with the model's files on the Hub")
}
