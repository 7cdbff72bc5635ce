//! Helpers that several tests of the library share.

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::Command;
use tulu_quantize::{Checkpoint, ConvertOptions, Ftype, Plan, QuantizeOptions, Result, Silent, convert};

/// Returns options of a conversion on `threads` threads with our kernels; existing files are not replaced.
pub(crate) fn options(threads: usize) -> ConvertOptions {
    ConvertOptions { threads: NonZeroUsize::new(threads).unwrap(), replace: false, reference_kernels: false }
}

/// Converts the folder `dir` to the file `out`.
pub(crate) fn convert_to(dir: &Path, out: &Path, ftype: Ftype) -> Result<()> {
    let source = Checkpoint::open(dir)?;
    let plan = Plan::new(&source, &[(ftype, out.to_owned())], &QuantizeOptions::default())?;
    convert(&source, &plan, options(1), &Silent).map(drop)
}

/// The SHA-256 of `bytes` in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The names of the files in `dir`, sorted.
pub(crate) fn listing(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// Changes the JSON file at `path`.
pub(crate) fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut json = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut json);
    fs::write(path, json.to_string()).unwrap();
}

/// Runs the test `name` (with its module) in a child process, because the test measures the memory of its process.
/// Returns true in the child, where the test continues, and false in the parent, where it has passed.
pub(crate) fn is_own_process(name: &str) -> bool {
    const CHILD: &str = "TULU_QUANT_TEST_PROCESS";
    // nextest runs each test in its own process already
    if std::env::var_os(CHILD).is_some() || std::env::var_os("NEXTEST").is_some() {
        return true;
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    let status = child.args(["--exact", name, "--nocapture"]).env(CHILD, "1").status().unwrap();
    assert!(status.success(), "{name} failed in its own process");
    false
}
