//! `verify` from outside: a good file, damaged ones, and files that were made from something else.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod support;

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use support::{last_line, run, tulu_quant};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tulu-tiny")
}

fn convert(types: &str, out: &Path) {
    let output = run(tulu_quant().args(["convert", "-q", types, "-o"]).args([out, &fixture()]), b"");
    assert!(output.status.success(), "{output:?}");
}

fn verify(file: &Path, args: &[&Path]) -> (Output, Value) {
    let mut command = tulu_quant();
    command.args(["verify", "--json"]).arg(file);
    if let [source] = args {
        command.arg("--against").arg(source);
    }
    let output = run(&mut command, b"");
    let json = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output, json)
}

/// Offset and length of a tensor's bytes in a file.
fn place(file: &Path, tensor: &str) -> (usize, usize) {
    let output = run(tulu_quant().args(["inspect", "--json"]).arg(file), b"");
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = json["tensors"].as_array().unwrap().iter().find(|t| t["name"] == tensor).unwrap();
    let number = |key: &str| usize::try_from(found[key].as_u64().unwrap()).unwrap();
    (number("offset"), number("bytes"))
}

#[test]
fn every_type_is_near_the_checkpoint_and_nearer_with_more_bits() {
    let dir = tempfile::tempdir().unwrap();
    let types = ["F32", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K"];
    convert(&types.join(","), dir.path());
    let mut before = 0.0;
    for name in types {
        let file = dir.path().join(format!("tulu-tiny-{name}.gguf"));
        let (output, json) = verify(&file, &[&fixture()]);
        assert_eq!(output.status.code(), Some(0), "{name}: {json}");
        assert_eq!(json["sha256"].as_str().map(str::len), Some(64));
        let gate = json["tensors"].as_array().unwrap().iter().find(|t| t["name"] == "blk.2.ffn_gate.weight").unwrap();
        let rmse = gate["rmse"].as_f64().unwrap();
        assert!(rmse > before || name == "F32", "{name}: {rmse} after {before}");
        before = rmse;
    }
    // the same against a lossless GGUF file as against the checkpoint it came from
    let (file, lossless) = (dir.path().join("tulu-tiny-Q4_K_M.gguf"), dir.path().join("tulu-tiny-F32.gguf"));
    assert_eq!(verify(&file, &[&fixture()]).1["tensors"], verify(&file, &[&lossless]).1["tensors"]);
}

#[test]
fn a_broken_block_is_found_and_named() {
    let dir = tempfile::tempdir().unwrap();
    convert("Q4_K_M", dir.path());
    let file = dir.path().join("tulu-tiny-Q4_K_M.gguf");
    let mut bytes = fs::read(&file).unwrap();
    let (offset, len) = place(&file, "blk.3.ffn_up.weight");
    // the scale of the last super-block becomes a NaN
    bytes[offset + len - 144..offset + len - 142].copy_from_slice(&[0xff, 0x7f]);
    fs::write(&file, bytes).unwrap();
    let (output, json) = verify(&file, &[]);
    assert_eq!(output.status.code(), Some(1));
    let wrong: Vec<&Value> = json["tensors"].as_array().unwrap().iter().filter(|t| !t["problem"].is_null()).collect();
    assert_eq!(wrong.len(), 1);
    assert_eq!(wrong[0]["name"], "blk.3.ffn_up.weight");
    let table = run(tulu_quant().arg("verify").arg(&file), b"");
    assert!(String::from_utf8_lossy(&table.stdout).contains("WRONG: tensor 'blk.3.ffn_up.weight'"));
}

#[test]
fn weights_of_something_else_are_found_against_the_source() {
    let dir = tempfile::tempdir().unwrap();
    convert("Q8_0", dir.path());
    let file = dir.path().join("tulu-tiny-Q8_0.gguf");
    let mut bytes = fs::read(&file).unwrap();
    let ((a, len), (b, same)) = (place(&file, "blk.1.ffn_up.weight"), place(&file, "blk.1.ffn_gate.weight"));
    assert_eq!(len, same);
    let (first, second) = (bytes[a..a + len].to_vec(), bytes[b..b + len].to_vec());
    bytes[a..a + len].copy_from_slice(&second);
    bytes[b..b + len].copy_from_slice(&first);
    fs::write(&file, bytes).unwrap();
    assert_eq!(verify(&file, &[]).0.status.code(), Some(0), "each block is sound");
    let (output, json) = verify(&file, &[&fixture()]);
    assert_eq!(output.status.code(), Some(1));
    let wrong = json["tensors"].as_array().unwrap().iter().filter(|t| !t["problem"].is_null()).count();
    assert_eq!(wrong, 2, "the two that changed places");
}

#[test]
fn a_header_that_lies_is_refused_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    convert("Q4_0", dir.path());
    let file = dir.path().join("tulu-tiny-Q4_0.gguf");
    let whole = fs::read(&file).unwrap();
    type Lie = (&'static str, fn(&mut Vec<u8>));
    let lies: &[Lie] = &[
        ("magic", |b| b[0] = b'X'),
        ("version 9", |b| b[4] = 9),
        ("2^64-1 tensors", |b| b[8..16].fill(0xff)),
        ("2^64-1 keys", |b| b[16..24].fill(0xff)),
        ("key of 2^64-1 bytes", |b| b[24..32].fill(0xff)),
        ("cut in the header", |b| b.truncate(100)),
        ("cut by a byte", |b| b.truncate(b.len() - 1)),
        ("cut to nothing", Vec::clear),
    ];
    for (name, lie) in lies {
        let mut bytes = whole.clone();
        lie(&mut bytes);
        fs::write(&file, bytes).unwrap();
        for verb in ["verify", "inspect"] {
            let output = run(tulu_quant().arg(verb).arg(&file), b"");
            assert_eq!(output.status.code(), Some(2), "{name}: {output:?}");
            assert!(last_line(&output).starts_with("tulu-quant: error[GGUF]: "), "{name}: {}", last_line(&output));
        }
    }
}
