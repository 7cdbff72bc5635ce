//! Reads the chat templates of a checkpoint in Transformers' order: chat_template.jinja, then tokenizer_config.json.
//! Last comes chat_template.json, which only llama.cpp's converter reads. Rendering is in the program's `prompt/`.

use super::json;
use crate::error::{Code, Error, Result};
use crate::files::{read_if_exists, read_small};
use crate::wrong_file;
use serde_json::Value;
use std::path::Path;

/// Limit on a template's length. Tulu's has 372 bytes; the longest published ones about 30 kB.
const MAX_BYTES: usize = 64 << 10;
/// Limit on the number of named templates.
const MAX_NAMED: usize = 64;
/// Folder in which Transformers keeps further templates, one per file.
const ADDITIONAL: &str = "additional_chat_templates";

/// The chat templates of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Templates {
    /// The template for ordinary conversations.
    pub(crate) default: Option<String>,
    /// Other templates, sorted by name: `tool_use`, `rag`.
    pub(crate) named: Vec<(String, String)>,
}

/// Reads the templates of the folder `dir`.
pub(crate) fn read(dir: &Path, notes: &mut Vec<String>) -> Result<Templates> {
    let mut found = from_json(&dir.join("tokenizer_config.json"))?;
    if let Some(text) = read_if_exists(&dir.join("chat_template.jinja"), text)? {
        if found.default.as_ref().is_some_and(|other| *other != text) {
            notes.push(
                "chat_template.jinja and tokenizer_config.json have different chat templates; chat_template.jinja is \
                 taken, as Transformers does"
                    .to_owned(),
            );
        }
        found = Templates { default: Some(text), named: Vec::new() };
    }
    found.named.extend(additional(&dir.join(ADDITIONAL))?);
    if found == Templates::default() {
        found = from_json(&dir.join("chat_template.json"))?;
    }
    found.named.sort();
    found.named.dedup_by(|a, b| a.0 == b.0);
    if found.default.is_none() && !found.named.is_empty() {
        let names: Vec<&str> = found.named.iter().map(|(name, _)| name.as_str()).collect();
        notes.push(format!("there are chat templates named {}, but none named default", names.join(", ")));
    }
    Ok(found)
}

/// Reads `chat_template` of a JSON file: a string, a list of named templates, or an object.
fn from_json(path: &Path) -> Result<Templates> {
    let Some(json) = json::read_optional(path)? else { return Ok(Templates::default()) };
    let text_of = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let several: Vec<(Option<String>, Option<String>)> = match json.get("chat_template") {
        None | Some(Value::Null) => return Ok(Templates::default()),
        Some(Value::String(text)) => {
            return Ok(Templates { default: Some(normalized(path, text)?), named: Vec::new() });
        }
        Some(Value::Array(list)) => {
            list.iter().map(|entry| (text_of(entry.get("name")), text_of(entry.get("template")))).collect()
        }
        Some(Value::Object(map)) => map.iter().map(|(name, text)| (Some(name.clone()), text_of(Some(text)))).collect(),
        Some(_) => return Err(bad(path, "chat_template is neither text nor a set of named texts")),
    };
    let mut found = Templates::default();
    for entry in several.into_iter().take(MAX_NAMED) {
        let (Some(name), Some(text)) = entry else {
            return Err(bad(path, "chat_template has an entry without name or text"));
        };
        let text = normalized(path, &text)?;
        if name == "default" { found.default = Some(text) } else { found.named.push((key_name(&name), text)) }
    }
    Ok(found)
}

/// Reads the folder of additional templates.
fn additional(dir: &Path) -> Result<Vec<(String, String)>> {
    let entries =
        read_if_exists(dir, |dir| std::fs::read_dir(dir).map_err(|err| Error::io(dir, "list the folder", &err)))?;
    let mut found = Vec::new();
    for entry in entries.into_iter().flatten().take(MAX_NAMED) {
        let path = entry.map_err(|err| Error::io(dir, "list the folder", &err))?.path();
        let stem = path.file_stem().map(|stem| key_name(&stem.to_string_lossy()));
        if let Some(name) = stem.filter(|_| path.extension().is_some_and(|end| end == "jinja")) {
            found.push((name, text(&path)?));
        }
    }
    Ok(found)
}

/// Replaces the characters that gguf-py does not allow in a key.
fn key_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// Reads a template file.
fn text(path: &Path) -> Result<String> {
    let bytes = read_small(path, MAX_BYTES as u64, |len| too_long(path, len))?;
    if let Some((what, fix)) = wrong_file::instead(&bytes).filter(|(what, _)| what.contains("LFS")) {
        return Err(Error::new(Code::Json, path, what, fix));
    }
    let text = String::from_utf8(bytes).map_err(|_| bad(path, "the chat template is not UTF-8"))?;
    normalized(path, &text)
}

/// Checks the length and normalizes line ends to `\n`, as Python and Jinja do.
fn normalized(path: &Path, text: &str) -> Result<String> {
    if text.len() > MAX_BYTES {
        return Err(too_long(path, text.len() as u64));
    }
    Ok(text.replace("\r\n", "\n").replace('\r', "\n"))
}

fn too_long(path: &Path, len: u64) -> Error {
    bad(path, &format!("the chat template has {len} bytes, more than {MAX_BYTES}"))
}

fn bad(path: &Path, what: &str) -> Error {
    Error::new(Code::Json, path, what, "compare with the model's files on the Hub")
}
