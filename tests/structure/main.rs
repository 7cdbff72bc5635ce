//! The structure of the source: no circles between files, rooms that use only rooms below them, short files. Run by
//! `make lint`. How names are resolved: `modules.rs` and `uses.rs`; the checks: `checks.rs`; tests of them: `examples.rs`.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod checks;
mod examples;
mod modules;
mod uses;

use std::path::Path;

/// The crates of the workspace: name and root file.
const CRATES: &[(&str, &str)] =
    &[("tulu_quant", "src/main.rs"), ("tulu_quantize", "quantize/src/lib.rs"), ("llama_ext", "vendor/src/lib.rs")];

/// The rooms from top to bottom. A room is a folder or file directly in `src/`, or another crate. It may use only rooms
/// of lower floors: none of its own floor, none above.
const FLOORS: &[&[&str]] = &[
    &["main"],
    &["cli"],
    &["commands"],
    &["options"],
    &["chat", "batch", "bench"],
    &["decode", "model"],
    &["prompt"],
    &["engine"],
    &["watch"],
    &["defect", "atomic_file", "stdout"],
    &["error"],
    &["interrupt"],
    &["platform", "stderr"],
    &["progress"],
    &["exit", "sanitize", "table", "clock", "hex"],
    &["quantize"],
    &["vendor"],
];

/// Circles that are accepted, by one of their files. It stays empty.
const ACCEPTED: &[&str] = &[];

/// The most lines a source file may have.
const LINES_MAX: usize = 400;
/// Files that may be longer, with the reason.
const TABLES: &[(&str, &str)] = &[];

fn workspace() -> modules::Tree {
    modules::Tree::read(Path::new(env!("CARGO_MANIFEST_DIR")), CRATES)
}

#[test]
fn has_no_circles() {
    let circles = checks::circles(&uses::arrows(&workspace()));
    let new: Vec<String> = circles.iter().filter(|circle| !circle.has_any(ACCEPTED)).map(ToString::to_string).collect();
    assert!(new.is_empty(), "{} circles of files that use each other:\n{}", new.len(), new.join("\n"));
}

#[test]
fn rooms_use_only_rooms_below_them() {
    let wrong = checks::upward(&uses::arrows(&workspace()), FLOORS);
    assert!(wrong.is_empty(), "{} arrows that do not go down:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn files_are_short() {
    let long =
        checks::longer_than(Path::new(env!("CARGO_MANIFEST_DIR")), &["src", "quantize/src", "vendor"], LINES_MAX);
    let new: Vec<_> = long.iter().filter(|(file, _)| !TABLES.iter().any(|(table, _)| table == file)).collect();
    assert!(new.is_empty(), "files of more than {LINES_MAX} lines: {new:?}");
    for (table, reason) in TABLES {
        assert!(
            long.iter().any(|(file, _)| file == table),
            "{table} ({reason}) is no longer long: take it off the list"
        );
    }
}
