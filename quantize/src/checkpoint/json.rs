//! The small JSON files of a checkpoint, read with a limit on their size.

use crate::error::{Code, Error, Result};
use serde_json::{Map, Value};
use std::path::Path;

/// The largest real one, a tokenizer.json, is under 10 MB; an index of the 70B model is 67 kB.
const MAX_BYTES: u64 = 64 << 20;

/// Reads a JSON object.
pub(crate) fn read_object(path: &Path) -> Result<Map<String, Value>> {
    let (_, len) = super::open_regular(path)?;
    let bad = |what: String| Error::new(Code::Json, path, what, "download the file again");
    if len > MAX_BYTES {
        return Err(bad(format!("has {len} bytes, more than the {MAX_BYTES} that such a file can need")));
    }
    let bytes = std::fs::read(path).map_err(|err| Error::io(path, "read the file", &err))?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(bad("is JSON, but not an object".to_owned())),
        Err(err) => Err(bad(format!("is not JSON: {err}"))),
    }
}

/// As [`read_object`]; `None` when there is no such file.
pub(crate) fn read_optional(path: &Path) -> Result<Option<Map<String, Value>>> {
    if path.exists() { read_object(path).map(Some) } else { Ok(None) }
}
