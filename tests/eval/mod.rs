//! `eval` and `imatrix` on the demonstration model.

mod base_file;
mod imatrix;
mod oracle;
mod page;
mod record;
mod table;
mod types;

use crate::support::{assert_success, checkpoint, run, tulu_quant};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A folder with the bundled checkpoint as BF16, Q8_0 and Q4_0 files, made once for all tests.
fn models() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    FOLDER
        .get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            let mut convert = tulu_quant();
            convert.arg("convert").arg(checkpoint::bundled()).args(["-q", "BF16,Q8_0,Q4_0", "-o"]).arg(folder.path());
            assert_success(&run(&mut convert, b""));
            folder
        })
        .path()
}

fn model(kind: &str) -> PathBuf {
    models().join(format!("tulu-tiny-{kind}.gguf"))
}

/// `eval` or `imatrix` with a cache of its own.
fn command(name: &str, cache: &Path) -> Command {
    let mut command = tulu_quant();
    command.arg(name).env("TULU_QUANT_CACHE", cache);
    command
}

fn json_of(command: &mut Command) -> Value {
    let output = run(command.args(["--json", "--no-speed"]), b"");
    assert_success(&output);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A text of some thousand tokens.
fn text() -> String {
    let sentence =
        |i: usize| format!("In the year {i} the harbour had {} boats and the town {} houses. ", i % 37, 7 * i);
    (0..160).map(sentence).collect()
}
