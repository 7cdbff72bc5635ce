//! Reads the JSON files of a checkpoint, with a limit on their size.

use crate::error::{Code, Error, Result};
use crate::files::{read_if_exists, read_small};
use crate::wrong_file;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::path::Path;

/// Limit on the length of a file. The largest real file, Llama 3's tokenizer.json with merges as pairs, has 17 MB.
const MAX_BYTES: u64 = 64 << 20;

/// Reads a JSON object.
pub(crate) fn read_object(path: &Path) -> Result<Map<String, Value>> {
    read_as(path)
}

/// Reads a JSON file as a `T`. A byte order mark, which Windows editors write, is skipped.
pub(crate) fn read_as<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bad = |what: String, fix: &str| Error::new(Code::Json, path, what, fix);
    let again = "download the file again";
    let bytes =
        read_small(path, MAX_BYTES, |len| bad(format!("has {len} bytes, more than the limit of {MAX_BYTES}"), again))?;
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(bad("is UTF-16 text, not UTF-8".to_owned(), "save it as UTF-8"));
    }
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    serde_json::from_slice(text).map_err(|err| match wrong_file::instead(&bytes) {
        Some((what, fix)) => bad(what.to_owned(), fix),
        None if err.is_data() => bad(format!("is valid JSON with unexpected content: {err}"), again),
        None => bad(format!("is not valid JSON: {err}"), again),
    })
}

/// Like [`read_object`]; `None` when the file does not exist.
pub(crate) fn read_optional(path: &Path) -> Result<Option<Map<String, Value>>> {
    read_if_exists(path, read_object)
}
