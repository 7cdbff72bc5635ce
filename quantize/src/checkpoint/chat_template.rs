//! The chat templates of a checkpoint, found as Transformers finds them: chat_template.jinja before tokenizer_config.json,
//! named ones beside the default. chat_template.json comes last; only llama.cpp's converter looks there.

use super::json;
use crate::error::{Code, Error, Result};
use crate::files::{if_there, read_small};
use crate::wrong_file;
use serde_json::Value;
use std::path::Path;

/// Tulu's has 372 bytes; the longest published ones some 30 kB.
const MAX_BYTES: usize = 64 << 10;
/// More than any model has.
const MAX_NAMED: usize = 64;
/// Where Transformers keeps further templates, one a file.
const FURTHER: &str = "additional_chat_templates";

/// What a folder has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Templates {
    /// The one that conversations are written with.
    pub(crate) default: Option<String>,
    /// Others by name, in order of their names: `tool_use`, `rag`.
    pub(crate) named: Vec<(String, String)>,
}

/// The templates of the folder `dir`.
pub(crate) fn read(dir: &Path, notes: &mut Vec<String>) -> Result<Templates> {
    let mut found = of(&dir.join("tokenizer_config.json"))?;
    if let Some(text) = if_there(&dir.join("chat_template.jinja"), text)? {
        if found.default.as_ref().is_some_and(|other| *other != text) {
            notes.push(
                "chat_template.jinja and tokenizer_config.json have different chat templates; chat_template.jinja is \
                 taken, as Transformers does"
                    .to_owned(),
            );
        }
        found = Templates { default: Some(text), named: Vec::new() };
    }
    found.named.extend(further(&dir.join(FURTHER))?);
    if found == Templates::default() {
        found = of(&dir.join("chat_template.json"))?;
    }
    found.named.sort();
    found.named.dedup_by(|a, b| a.0 == b.0);
    if found.default.is_none() && !found.named.is_empty() {
        let names: Vec<&str> = found.named.iter().map(|(name, _)| name.as_str()).collect();
        notes.push(format!("there are chat templates named {}, but none named default", names.join(", ")));
    }
    Ok(found)
}

/// `chat_template` of a JSON file: a string, or several by name, in a list or an object.
fn of(path: &Path) -> Result<Templates> {
    let Some(json) = json::read_optional(path)? else { return Ok(Templates::default()) };
    let text_of = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let several: Vec<(Option<String>, Option<String>)> = match json.get("chat_template") {
        None | Some(Value::Null) => return Ok(Templates::default()),
        Some(Value::String(text)) => {
            return Ok(Templates { default: Some(checked(path, text)?), named: Vec::new() });
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
        let text = checked(path, &text)?;
        if name == "default" { found.default = Some(text) } else { found.named.push((plain(&name), text)) }
    }
    Ok(found)
}

/// The files of the folder with further templates.
fn further(dir: &Path) -> Result<Vec<(String, String)>> {
    let entries =
        if_there(dir, |dir| std::fs::read_dir(dir).map_err(|err| Error::io(dir, "look into the folder", &err)))?;
    let mut found = Vec::new();
    for entry in entries.into_iter().flatten().take(MAX_NAMED) {
        let path = entry.map_err(|err| Error::io(dir, "look into the folder", &err))?.path();
        let stem = path.file_stem().map(|stem| plain(&stem.to_string_lossy()));
        if let Some(name) = stem.filter(|_| path.extension().is_some_and(|end| end == "jinja")) {
            found.push((name, text(&path)?));
        }
    }
    Ok(found)
}

/// A name as it stands in a GGUF's key; gguf-py allows these characters only.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// A template in a file of its own.
fn text(path: &Path) -> Result<String> {
    let bytes = read_small(path, MAX_BYTES as u64, |len| too_long(path, len))?;
    if let Some((what, fix)) = wrong_file::instead(&bytes).filter(|(what, _)| what.contains("LFS")) {
        return Err(Error::new(Code::Json, path, what, fix));
    }
    let text = String::from_utf8(bytes).map_err(|_| bad(path, "the chat template is not UTF-8"))?;
    checked(path, &text)
}

/// Line ends become `\n`, as Python reads a text file and Jinja a template.
fn checked(path: &Path, text: &str) -> Result<String> {
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
