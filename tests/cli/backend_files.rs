//! GPU backends in files beside the program: those that cannot be used are named by `doctor` and stop nothing.

use crate::support::{assert_success, demo_model, run, tulu_quant};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs `doctor --json` with the files of a folder.
fn doctor(folder: &Path) -> Value {
    let output = run(tulu_quant().args(["doctor", "--json"]).env("TULU_QUANT_BACKENDS", folder), b"");
    assert_success(&output);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Compiles a shared library that has the given source text.
fn library(folder: &Path, name: &str, source: &str) -> PathBuf {
    let (input, library) = (folder.join("source.c"), folder.join(name));
    std::fs::write(&input, source).unwrap();
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&input).status().unwrap();
    assert!(compiled.success());
    library
}

#[test]
#[cfg(target_os = "linux")]
fn doctor_says_why_a_backend_file_cannot_be_used_and_the_program_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    std::fs::write(place.join("libggml-broken.so"), "not a library").unwrap();
    std::fs::write(place.join("ggml-other.so"), "not looked at").unwrap();
    library(place, "libggml-foreign.so", "int nothing;");
    library(place, "libggml-missing.so", "void ggml_no_such_function(void); void f(void) { ggml_no_such_function(); }");
    let key = r#"const char * tulu_quant_backend_key(void) { return "llama-cpp-sys-2 0.0.1"; }"#;
    library(place, "libggml-old.so", key);
    let found = doctor(place);
    let pin = found["pin"]["llama-cpp-sys-2"].as_str().unwrap();
    let expected = [
        ("libggml-broken.so", "file too short".to_owned()),
        ("libggml-foreign.so", "it was not built by scripts/build-backend.sh".to_owned()),
        ("libggml-missing.so", "undefined symbol: ggml_no_such_function".to_owned()),
        ("libggml-old.so", format!("it was built from llama-cpp-sys-2 0.0.1, this program from llama-cpp-sys-2 {pin}")),
    ];
    let files = found["backend_files"].as_array().unwrap();
    assert_eq!(files.len(), expected.len(), "{files:?}");
    for (file, (name, why)) in files.iter().zip(&expected) {
        assert_eq!(file["file"], place.join(name).display().to_string());
        assert!(file["error"].as_str().unwrap().contains(why.as_str()), "{file}, expected {why}");
    }
    assert_eq!(found["advice"].as_array().unwrap().iter().filter(|a| a.to_string().contains("libggml-")).count(), 4);

    let mut chat = tulu_quant();
    chat.arg("chat").arg(demo_model()).args(["--temp", "0", "-n", "4", "-p", "Hello"]);
    let without = run(&mut chat, b"");
    let with = run(chat.env("TULU_QUANT_BACKENDS", place), b"");
    assert_success(&with);
    assert_eq!((with.stdout, with.stderr), (without.stdout, without.stderr));
}

#[test]
fn an_empty_variable_looks_for_no_backend_file() {
    assert_eq!(doctor(Path::new(""))["backend_files"], serde_json::json!([]));
}
