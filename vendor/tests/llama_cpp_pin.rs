//! The versions in the pin file, Cargo.toml, Cargo.lock and the linked library must be equal.

use std::path::Path;

fn pinned(key: &str) -> &'static str {
    let line = llama_ext::PIN.lines().find(|l| l.split('=').next().is_some_and(|k| k.trim() == key));
    line.and_then(|l| l.split('"').nth(1)).unwrap_or_else(|| panic!("llama.cpp.toml has no {key}"))
}

fn workspace_file(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)).expect(name)
}

#[test]
fn cargo_toml_requires_exactly_the_pin() {
    let manifest = workspace_file("Cargo.toml");
    for name in ["llama-cpp-2", "llama-cpp-sys-2"] {
        let asked = format!("{name} = {{ version = \"={}\"", pinned(name));
        assert!(manifest.contains(&asked), "Cargo.toml does not have: {asked}");
    }
}

#[test]
fn cargo_lock_has_the_pin_once() {
    let lock = workspace_file("Cargo.lock");
    for name in ["llama-cpp-2", "llama-cpp-sys-2"] {
        let entry = format!("name = \"{name}\"\nversion = \"{}\"\n", pinned(name));
        assert!(lock.contains(&entry), "Cargo.lock does not have {name} {}", pinned(name));
        assert_eq!(lock.matches(&format!("name = \"{name}\"\n")).count(), 1, "{name} is locked twice");
    }
}

#[test]
fn linked_library_is_the_pinned_one() {
    assert_eq!(llama_ext::ggml_version(), pinned("ggml"));
}
