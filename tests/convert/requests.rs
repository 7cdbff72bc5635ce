//! Arguments of `convert`: what cannot be done is refused before any work, and what has no effect is reported.

use crate::support::checkpoint::{convert, copy, listing};
use crate::support::{assert_error, assert_success, last_line, run, stderr, tulu_quant};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn impossible_requests_are_refused_before_any_work() {
    let (dir, source, out) = copy();
    fs::write(out.join("taken.gguf"), "precious").unwrap();
    let cases: &[(&[&str], PathBuf, i32, &str, &str)] = &[
        (&["-q", "Q9_X"], out.clone(), 2, "TYPE", "IQ4_XS"),
        (&["-q", "Q4_0,Q8_0"], out.join("one.gguf"), 2, "REQUEST", "{type}"),
        (&["-q", "Q4_0"], out.join("taken.gguf"), 2, "OUTPUT_EXISTS", "--force"),
        (&["-q", "Q4_0"], dir.path().join("source/config.json/x.gguf"), 3, "IO", "config.json"),
        (&["-q", "Q4_0", "-t", "0"], out.clone(), 2, "USAGE", ""),
        (&["--tensor-type", "attn_v"], out.clone(), 2, "TYPE", "PATTERN=TYPE"),
        (&["--tensor-type", "attn_v=q9"], out.clone(), 2, "TYPE", "q6_K"),
        (&["--tensor-type", "(=q6_K"], out.clone(), 2, "TYPE", "patterns"),
        (&["--imatrix", "Cargo.toml"], out.clone(), 2, "IMATRIX", "llama-imatrix"),
        (&["--imatrix", "nowhere.dat"], out.clone(), 2, "NOT_FOUND", "nowhere.dat"),
    ];
    for (args, to, exit, code, said) in cases {
        let output = convert(&source, to, args);
        let line = last_line(&output);
        assert_eq!(output.status.code(), Some(*exit), "{args:?}: {output:?}");
        assert!(line.starts_with(&format!("tulu-quant: error[{code}]: ")) && line.contains(said), "{args:?}: {line}");
    }
    assert_eq!(fs::read(out.join("taken.gguf")).unwrap(), b"precious");
    assert_eq!(listing(&out), ["taken.gguf"]);
    assert_eq!(convert(&source, &out.join("taken.gguf"), &["-q", "Q4_0", "--force"]).status.code(), Some(0));
    assert_eq!(&fs::read(out.join("taken.gguf")).unwrap()[..4], b"GGUF");
    assert_eq!(listing(&out), ["taken.gguf"]);
}

#[test]
fn error_format_json_prints_an_object() {
    let output = run(tulu_quant().args(["--error-format", "json", "convert", "/nowhere/at/all"]), b"");
    let error: Value = serde_json::from_str(&last_line(&output)).unwrap();
    assert_eq!((&error["error"]["code"], &error["error"]["exit"]), (&"NOT_FOUND".into(), &2.into()));
}

/// An importance matrix in llama-imatrix's older format, with `columns` ones for each name.
fn imatrix(path: &Path, entries: &[(String, usize, f32)]) {
    let mut bytes = (entries.len() as i32).to_le_bytes().to_vec();
    for (name, columns, value) in entries {
        bytes.extend((name.len() as i32).to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend(1_i32.to_le_bytes());
        bytes.extend((*columns as i32).to_le_bytes());
        (0..*columns).for_each(|_| bytes.extend(value.to_le_bytes()));
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn arguments_without_effect_are_refused_or_reported() {
    let (dir, source, out) = copy();
    let file = dir.path().join("m.dat");
    let matrix = file.to_str().unwrap();
    let first = "blk.0.attn_v.weight".to_owned();
    let columns = 256;
    for (entries, said) in [
        (vec![("model.layers.0.nothing".to_owned(), 4, 1.0)], "none for a tensor of this model"),
        (vec![(first.clone(), columns, 1e30)], "outside 0 to 1e15"),
        (vec![(first.clone(), columns, -1.0)], "outside 0 to 1e15"),
        (vec![(first.clone(), 3, 1.0)], "has 3 weights"),
    ] {
        imatrix(&file, &entries);
        assert_error(&convert(&source, &out, &["--imatrix", matrix, "--dry-run"]), 2, "IMATRIX", &[said]);
    }
    imatrix(&file, &[(first.clone(), columns, 1.0), ("blk.99.attn_v.weight".to_owned(), 4, 1.0)]);
    let args = ["--imatrix", matrix, "--tensor-type", "nosuch=q8_0", "--tensor-type", "attn_norm=q8_0"];
    let output = convert(&source, &out, &[&args[..], &["--tensor-type", "attn_v=q6_K"]].concat());
    assert_success(&output);
    let said = stderr(&output);
    let notes: Vec<&str> = said.lines().filter(|line| line.starts_with("tulu-quant: note: ")).collect();
    for part in [
        "m.dat has no entry for ",
        "m.dat has 1 entries that match no matrix of this model: blk.99.attn_v.weight",
        "the pattern 'nosuch' of type q8_0 matches no matrix",
        "the pattern 'attn_norm' of type q8_0 matches no matrix",
    ] {
        assert!(notes.iter().any(|note| note.contains(part)), "'{part}' is not in {said}");
    }
    assert!(!said.contains("'attn_v'"), "{said}");
}

/// The planned types of attn_v and ffn_up with these patterns.
fn planned(source: &Path, command: &mut Command, patterns: Option<&str>) -> [String; 2] {
    command.arg("convert").arg(source).args(["-q", "Q4_0", "--dry-run", "--json"]);
    if let Some(text) = patterns {
        command.args(["--tensor-type", text]);
    }
    let output = run(command, b"");
    assert_success(&output);
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    let tensors = plan["outputs"][0]["tensors"].as_array().unwrap().clone();
    ["blk.0.attn_v.weight", "blk.0.ffn_up.weight"]
        .map(|name| tensors.iter().find(|t| t["name"] == name).unwrap()["type"].as_str().unwrap().to_owned())
}

#[test]
fn patterns_may_contain_commas() {
    let (_dir, source, _out) = copy();
    for (text, wanted) in [
        ("blk\\.[0-9]{1,2}\\.attn_v=q8_0", ["q8_0", "q4_0"]),
        ("attn_v=q8_0,ffn_up=q6_K", ["q8_0", "q6_K"]),
        ("blk\\.[0-9]{1,2}\\.attn_v=q8_0,blk.[0-9]{1,}.ffn_up=q5_1", ["q8_0", "q5_1"]),
    ] {
        assert_eq!(planned(&source, &mut tulu_quant(), Some(text)), wanted, "{text}");
        assert_eq!(planned(&source, tulu_quant().env("TULU_QUANT_TENSOR_TYPE", text), None), wanted, "{text}");
    }
}

#[test]
fn output_names_and_types_are_interpreted() {
    let (_dir, source, out) = copy();
    // (-o, -q, files): missing folders are created, and {name} is replaced in folder names, too
    for (to, types, files) in [
        ("new/x-{type}.gguf", "Q8_0,Q4_0", &["new/x-Q8_0.gguf", "new/x-Q4_0.gguf"][..]),
        ("my-{name}", "q4_k", &["my-source/source-Q4_K_M.gguf"]),
        ("{name}/{name}-{type}.gguf", "q8_0", &["source/source-Q8_0.gguf"]),
        ("deep/er/{type}/m.gguf", "Q4_K,Q3_K", &["deep/er/Q4_K_M/m.gguf", "deep/er/Q3_K_M/m.gguf"]),
    ] {
        assert_success(&convert(&source, &out.join(to), &["-q", types]));
        files.iter().for_each(|file| assert!(out.join(file).is_file(), "{to}: {file}"));
    }
    let folder = format!("{}:Q8_0", source.display());
    for name in ["tulu-tiny:Q8_0", folder.as_str(), "tulu-2-7b:Q8_0"] {
        assert_error(&convert(Path::new(name), &out, &[]), 2, "REQUEST", &["-q Q8_0"]);
    }
    for threads in ["0", "1025", "18446744073709551615", "-1"] {
        assert_error(&convert(&source, &out, &["-t", threads]), 2, "USAGE", &[]);
    }
}
