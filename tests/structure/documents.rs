//! The documents name files that exist.

use std::path::Path;

/// Returns the paths in backticks or link targets of `text` that look like files of the workspace.
fn paths(text: &str) -> Vec<&str> {
    let rooms = ["src/", "quantize/", "vendor/", "tests/", "scripts/", "docs/", "benches/", ".github/"];
    let spans =
        text.split('`').skip(1).step_by(2).chain(text.split("](").skip(1).filter_map(|rest| rest.split(')').next()));
    spans.filter(|span| rooms.iter().any(|room| span.starts_with(room)) && !span.contains(' ')).collect()
}

#[test]
fn documents_name_existing_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut named, mut missing) = (0, Vec::new());
    for document in ["README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/glossary.md"] {
        let text = std::fs::read_to_string(root.join(document)).unwrap();
        for path in paths(&text) {
            named += 1;
            if !root.join(path).exists() {
                missing.push(format!("{document}: {path}"));
            }
        }
    }
    assert!(named > 60, "the documents name {named} files: does this test still find them?");
    assert!(missing.is_empty(), "{missing:#?}");
}
