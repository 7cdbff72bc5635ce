//! The bundled checkpoint, copies of it that a test may change, and conversions of them.

use super::{run, tulu_quant};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use tempfile::TempDir;

/// Names of the bundled checkpoint's weight files.
pub(crate) const SHARDS: [&str; 2] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
/// Name of its index.
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// The folder of the bundled checkpoint.
pub(crate) fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tulu-tiny")
}

/// The folder of the bundled draft checkpoint.
pub(crate) fn bundled_draft() -> PathBuf {
    bundled().with_file_name("tulu-tiny-draft")
}

/// Copies the bundled checkpoint to the folder `to`, which is created if it is missing.
pub(crate) fn copy_to(to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(bundled()).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Returns a copy of the bundled checkpoint in a folder called `source`, and an empty folder next to it for outputs.
/// Dropping the first value deletes both.
pub(crate) fn copy() -> (TempDir, PathBuf, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let (source, out) = (dir.path().join("source"), dir.path().join("out"));
    copy_to(&source);
    fs::create_dir(&out).unwrap();
    (dir, source, out)
}

/// Runs `convert` of `source` to `out`.
pub(crate) fn convert(source: &Path, out: &Path, args: &[&str]) -> Output {
    run(tulu_quant().arg("convert").arg(source).arg("-o").arg(out).args(args), b"")
}

/// The result of `inspect --json`.
pub(crate) fn inspect(path: &Path) -> Value {
    json(&run(tulu_quant().args(["inspect", "--json"]).arg(path), b""))
}

/// The JSON on stdout.
pub(crate) fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|err| panic!("{err}: {output:?}"))
}

/// The names of the files in `dir`, sorted.
pub(crate) fn listing(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}
