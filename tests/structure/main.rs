//! Checks the structure of the source: no circles between files, rooms use only rooms below them, files are short.
//! `names.rs`, `modules.rs` and `uses.rs` resolve names; `checks.rs` has the checks; `examples.rs` tests both on made-up
//! source. `make lint` runs it.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod checks;
mod documents;
mod examples;
mod modules;
mod names;
mod uses;

use std::path::PathBuf;

/// The crates of the workspace: name and root file.
const CRATES: &[(&str, &str)] =
    &[("tulu_quant", "src/main.rs"), ("tulu_quantize", "quantize/src/lib.rs"), ("llama_ext", "vendor/src/lib.rs")];

/// The rooms from top to bottom. A room is a folder or file directly in `src/`, or another crate of the workspace. It uses
/// only rooms of lower floors.
const FLOORS: &[&[&str]] = &[
    &["main"],
    &["cli"],
    &["commands"],
    &["options"],
    &["chat", "batch", "bench", "serve", "eval", "imatrix"],
    &["api"],
    &["decode", "model", "corpus"],
    &["prompt", "grammar"],
    &["engine"],
    &["watch"],
    &["defect", "atomic_file", "stdout"],
    &["error"],
    &["interrupt"],
    &["platform", "stderr"],
    &["progress"],
    &["exit", "sanitize", "table", "clock"],
    &["quantize"],
    &["vendor"],
];

/// Accepted circles, each by one of its files. Keep it empty.
const ACCEPTED: &[&str] = &[];

/// Maximum lines of a source file.
const LINES_MAX: usize = 400;
/// Files that may be longer, with the reason.
const TABLES: &[(&str, &str)] = &[];

/// The folder of the workspace; cargo sets the variable. Set it to another folder to check that one.
fn root() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

fn workspace_arrows() -> uses::Arrows {
    uses::arrows(&modules::Tree::read(&root(), CRATES))
}

#[test]
fn has_no_circles() {
    let circles = checks::circles(&workspace_arrows());
    let new: Vec<String> = circles.iter().filter(|circle| !circle.has_any(ACCEPTED)).map(ToString::to_string).collect();
    assert!(new.is_empty(), "{} circles of files that use each other:\n{}", new.len(), new.join("\n"));
}

#[test]
fn rooms_use_only_rooms_below_them() {
    let wrong = checks::upward(&workspace_arrows(), FLOORS);
    assert!(wrong.is_empty(), "{} arrows that do not go down:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn files_are_short() {
    let long = checks::longer_than(&root(), &["benches", "quantize", "src", "tests", "vendor"], LINES_MAX);
    let new: Vec<_> = long.iter().filter(|(file, _)| !TABLES.iter().any(|(table, _)| table == file)).collect();
    assert!(new.is_empty(), "files of more than {LINES_MAX} lines: {new:?}");
    for (table, reason) in TABLES {
        assert!(
            long.iter().any(|(file, _)| file == table),
            "{table} ({reason}) is no longer long: take it off the list"
        );
    }
}
