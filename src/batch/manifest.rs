//! The manifest beside an output: what it was made of, with what and how. It is written after the output, whole or absent;
//! a merge goes by it.

use super::files::beside;
use super::output::write_whole;
use crate::error::Failure;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// How a manifest says what it is, in the version that is written now.
const VERSION: u64 = 1;

/// Where the manifest of `output` is.
pub(crate) fn path(output: &Path) -> Result<PathBuf, Failure> {
    beside(output, "", ".manifest.json")
}

/// Writes the `fields` of an output's manifest, after those that say what wrote it.
pub(crate) fn write(output: &Path, fields: Value) -> Result<(), Failure> {
    let mut manifest = json!({
        "tulu_quant_manifest": VERSION,
        "program": {
            "version": env!("CARGO_PKG_VERSION"),
            "revision": env!("TULU_QUANT_REVISION"),
            "llama_cpp": env!("TULU_QUANT_PIN"),
        },
    });
    if let (Some(manifest), Value::Object(fields)) = (manifest.as_object_mut(), fields) {
        manifest.extend(fields);
    }
    write_whole(&path(output)?, format!("{manifest:#}\n").as_bytes())
}

/// The manifest of an output.
pub(crate) fn read(output: &Path) -> Result<Value, Failure> {
    let path = path(output)?;
    let bytes = fs::read(&path).map_err(|err| Failure::io(&path, "cannot read the manifest", &err))?;
    let manifest: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    if manifest["tulu_quant_manifest"] == VERSION {
        return Ok(manifest);
    }
    let fix = "make the output again with this version";
    Err(Failure::input("MANIFEST", "is not a manifest that this version knows", fix).at(path))
}

/// The most memory that this process had so far, in bytes, where the system tells.
pub(crate) fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
