//! `inspect` with hostile files: bounds of all numbers, all types, little memory, and nothing that acts on the
//! terminal. `verify`, `convert` and `chat` get the same files.

use crate::support::checkpoint::bundled;
use crate::support::gguf::{GgufFile, Tensor};
use crate::support::{last_line, run, tulu_quant};
use serde_json::Value as Json;
use std::fs;
use std::path::Path;
use std::process::Output;
use tulu_quantize::GgmlType;
use tulu_quantize::gguf::{Array, Value};

/// The demonstration model as a lossless GGUF file.
fn lossless(dir: &Path) -> GgufFile {
    let path = dir.join("tiny-BF16.gguf");
    let output = run(tulu_quant().args(["convert", "-q", "BF16", "-o"]).args([&path, &bundled()]), b"");
    assert!(output.status.success(), "{output:?}");
    GgufFile::read(&path)
}

fn ask(verb: &str, path: &Path) -> Output {
    let mut command = tulu_quant();
    match verb {
        "convert" => {
            let out = path.with_extension("out.gguf");
            command.args(["convert", "--force", "-q", "Q8_0", "-o"]).arg(out).arg(path)
        }
        "chat" => command.args(["chat", "-p", "Hello", "-n", "1"]).arg(path),
        other => command.arg(other).arg(path),
    };
    run(&mut command, b"")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn header_numbers_have_the_bounds_of_the_engine() {
    let dir = tempfile::tempdir().unwrap();
    let good = lossless(dir.path());
    let path = dir.path().join("bad.gguf");
    // key, value, part of the output
    let rows: &[(&str, Value, &str)] = &[
        ("llama.block_count", Value::U32(u32::MAX), "llama.block_count is 4294967295"),
        ("llama.block_count", Value::U32(0), "llama.block_count is 0"),
        ("llama.block_count", Value::U64(6), "llama.block_count is 6 (uint64)"),
        ("llama.context_length", Value::U32(u32::MAX), "llama.context_length is 4294967295"),
        ("llama.embedding_length", Value::U32(u32::MAX), "llama.embedding_length is 4294967295"),
        ("llama.feed_forward_length", Value::U32(u32::MAX), "llama.feed_forward_length is 4294967295"),
        ("llama.attention.head_count", Value::U32(u32::MAX), "llama.attention.head_count is 4294967295"),
        ("llama.attention.head_count", Value::U32(0), "llama.attention.head_count is 0"),
        ("llama.attention.head_count_kv", Value::U32(u32::MAX), "llama.attention.head_count_kv is 4294967295"),
        ("llama.attention.head_count_kv", Value::U32(0), "llama.attention.head_count_kv is 0"),
        ("llama.attention.head_count_kv", Value::Array(Array::I32(vec![1])), "head_count_kv is [1]"),
        ("llama.attention.key_length", Value::U32(u32::MAX), "llama.attention.key_length is 4294967295"),
        ("llama.attention.key_length", Value::U32(3), "heads of 3 values"),
        ("llama.attention.value_length", Value::U32(2), "llama.attention.value_length is 2"),
        ("llama.rope.dimension_count", Value::U32(2), "llama.rope.dimension_count is 2"),
        ("llama.rope.freq_base", Value::F32(f32::NAN), "llama.rope.freq_base is NaN"),
        ("llama.rope.freq_base", Value::F64(1e6), "llama.rope.freq_base is 1000000 (float64)"),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(-1.0), "layer_norm_rms_epsilon is -1"),
        ("llama.expert_count", Value::U32(8), "mixture of experts"),
    ];
    for (key, value, said) in rows {
        good.clone().put(key, value.clone()).write(&path);
        let inspected = ask("inspect", &path);
        assert_eq!(inspected.status.code(), Some(0), "{key}: {inspected:?}");
        assert!(stdout(&inspected).contains(said), "{key}: {}", stdout(&inspected));
        let verified = ask("verify", &path);
        assert_eq!(verified.status.code(), Some(1), "{key}");
        assert!(
            stdout(&verified).contains(&format!("WRONG: {}", said.split(' ').next().unwrap_or_default()))
                || stdout(&verified).contains(said),
            "{key}: {}",
            stdout(&verified)
        );
        for (verb, code) in [("convert", "CONFIG"), ("chat", "MODEL")] {
            let output = ask(verb, &path);
            assert_eq!(output.status.code(), Some(2), "{key} {verb}: {output:?}");
            let line = last_line(&output);
            assert!(line.contains(&format!("error[{code}]")) && line.contains(said), "{key} {verb}: {line}");
        }
    }
}

/// A header that claims 4294967295 blocks must not make the program allocate memory for them. The address space is
/// limited to 1 GB.
#[test]
#[cfg(target_os = "linux")]
fn header_numbers_allocate_no_memory() {
    let dir = tempfile::tempdir().unwrap();
    let good = lossless(dir.path());
    let (big, path) = (dir.path().join("big.gguf"), dir.path().join("bad.gguf"));
    good.clone().put("llama.block_count", Value::U32(u32::MAX)).write(&path);
    // one array of 100 MB, of a type whose elements have one byte
    let raw = tulu_quantize::gguf::Raw::new(0, vec![7; 100 << 20]).unwrap();
    good.clone().put("big.array", Value::Array(Array::Other(raw))).write(&big);
    let exe = env!("CARGO_BIN_EXE_tulu-quant");
    let out = dir.path().join("out.gguf");
    for (args, exit) in [
        (format!("inspect {}", path.display()), 0),
        (format!("verify -t 2 {}", path.display()), 1),
        (format!("convert -t 2 -q Q8_0 -o {} {}", out.display(), path.display()), 2),
        (format!("inspect {}", big.display()), 0),
        (format!("inspect --json {} >/dev/null", big.display()), 0),
        (format!("verify -t 2 {}", big.display()), 0),
    ] {
        let mut shell = std::process::Command::new("sh");
        let script = format!("ulimit -v 1000000; exec {exe} {args}");
        let output = run(shell.args(["-c", &script]), b"");
        assert_eq!(output.status.code(), Some(exit), "{args}: {}", last_line(&output));
    }
}

#[test]
fn sums_of_header_numbers_do_not_overflow() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.gguf");
    let mut made = GgufFile::default();
    made.put("general.architecture", Value::Str("llama".into()));
    for key in ["block_count", "context_length", "attention.head_count", "embedding_length", "feed_forward_length"] {
        made.put(&format!("llama.{key}"), Value::U32(u32::MAX));
    }
    made.write(&path);
    let output = ask("inspect", &path);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(stdout(&output).contains("memory to run: not known; llama."), "{}", stdout(&output));
    for dims in
        [vec![1 << 33, 1 << 31, 0], vec![0, 1], vec![256, u64::MAX], vec![1 << 32, 1 << 32], vec![256, 0, 1 << 60]]
    {
        let tensor = Tensor { name: "t".into(), dims: dims.clone(), kind: GgmlType::Q4_K.id(), bytes: Vec::new() };
        let mut made = made.clone();
        made.tensors.push(tensor);
        made.write(&path);
        for verb in ["inspect", "verify", "convert", "chat"] {
            let output = ask(verb, &path);
            assert_eq!(output.status.code(), Some(2), "{dims:?} {verb}: {output:?}");
            assert!(last_line(&output).contains("error[GGUF]"), "{dims:?} {verb}: {}", last_line(&output));
        }
    }
}

#[test]
fn every_ggml_type_is_read_and_convert_reports_unsupported_ones() {
    let dir = tempfile::tempdir().unwrap();
    let good = lossless(dir.path());
    let path = dir.path().join("x.gguf");
    for kind in GgmlType::known() {
        let mut made = good.clone();
        let tensor = made.tensor("blk.0.attn_q.weight");
        let weights = tensor.dims.iter().product::<u64>() as usize;
        let bytes = kind.row_bytes(weights).unwrap();
        (tensor.kind, tensor.bytes) = (kind.id(), vec![0; bytes]);
        made.write(&path);
        let json: Json =
            serde_json::from_slice(&run(tulu_quant().args(["inspect", "--json"]).arg(&path), b"").stdout).unwrap();
        let found = json["tensors"].as_array().unwrap().iter().find(|t| t["name"] == "blk.0.attn_q.weight").unwrap();
        assert_eq!((found["type"].as_str(), found["bytes"].as_u64()), (Some(kind.name()), Some(bytes as u64)));
        let verified = ask("verify", &path);
        assert_eq!(verified.status.code(), Some(0), "{kind}: {}", stdout(&verified));
        let converted = ask("convert", &path);
        let (code, line) = (converted.status.code(), last_line(&converted));
        match kind {
            GgmlType::F32 | GgmlType::F16 | GgmlType::BF16 => assert_eq!(code, Some(0), "{kind}: {line}"),
            kind if kind.is_weights() => {
                assert!(code == Some(2) && line.contains("error[REQUANTIZE]"), "{kind}: {line}");
                let out = dir.path().join("again.gguf");
                let mut command = tulu_quant();
                command.args(["convert", "--force", "--allow-requantize", "-q", "Q8_0", "-o"]).args([&out, &path]);
                let again = run(&mut command, b"");
                assert_eq!(again.status.code(), Some(0), "{kind}: {}", last_line(&again));
            }
            kind => assert!(code == Some(2) && line.contains("error[TYPE]"), "{kind}: {line}"),
        }
    }
    // types that ggml removed, and numbers that it does not have
    for id in [4, 5, 31, 38, 4000, u32::MAX] {
        let mut made = good.clone();
        made.tensor("blk.0.attn_q.weight").kind = id;
        made.write(&path);
        for verb in ["inspect", "verify", "convert", "chat"] {
            let output = ask(verb, &path);
            let line = last_line(&output);
            assert!(output.status.code() == Some(2) && line.contains("error[GGUF_TYPE]"), "{id} {verb}: {line}");
            assert!(line.contains(&format!("'blk.0.attn_q.weight' has type {id}, which ggml")), "{line}");
        }
    }
}

#[test]
fn files_of_any_alignment_are_read_and_converted() {
    let dir = tempfile::tempdir().unwrap();
    let good = lossless(dir.path());
    let plain = dir.path().join("tiny-BF16.gguf");
    let expected = {
        assert!(ask("convert", &plain).status.success());
        fs::read(plain.with_extension("out.gguf")).unwrap()
    };
    let path = dir.path().join("x.gguf");
    for alignment in [1, 2, 8, 16, 32, 64, 256, 4096, 1 << 20] {
        good.clone().put("general.alignment", Value::U32(alignment)).write(&path);
        for verb in ["inspect", "verify", "convert"] {
            let output = ask(verb, &path);
            assert_eq!(output.status.code(), Some(0), "{alignment} {verb}: {}", last_line(&output));
        }
        let out = path.with_extension("out.gguf");
        assert!(fs::read(&out).unwrap() == expected, "{alignment}: the same file, and without the key");
        assert_eq!(ask("verify", &out).status.code(), Some(0));
        let chat = ask("chat", &path);
        match alignment {
            // llama.cpp needs tensors at multiples of 32 bytes
            1..32 => {
                let line = last_line(&chat);
                assert!(chat.status.code() == Some(0) || line.contains("error[MODEL]"), "{alignment}: {chat:?}");
            }
            _ => assert_eq!(chat.status.code(), Some(0), "{alignment}: {}", last_line(&chat)),
        }
    }
    for value in [Value::U32(0), Value::U32(48), Value::U64(32), Value::Str("32".into())] {
        good.clone().put("general.alignment", value.clone()).write(&path);
        let line = last_line(&ask("inspect", &path));
        assert!(line.contains("error[GGUF]") && line.contains("general.alignment is"), "{value}: {line}");
    }
}

#[test]
fn part_of_a_split_file_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let mut part = lossless(dir.path());
    part.tensors.truncate(5);
    part.put("split.count", Value::U16(3)).put("split.tensors.count", Value::I32(57));
    let path = dir.path().join("x-00001-of-00003.gguf");
    for (no, whole) in [(0, true), (1, false)] {
        let mut part = part.clone();
        if !whole {
            part.pairs.retain(|(key, _)| key.starts_with("split."));
        }
        part.put("split.no", Value::U16(no)).write(&path);
        let said = format!("part {} of 3 of a split file", no + 1);
        let inspected = ask("inspect", &path);
        assert!(inspected.status.success() && stdout(&inspected).contains(&said), "{inspected:?}");
        let verified = ask("verify", &path);
        assert!(verified.status.success() && stdout(&verified).contains(&said), "{verified:?}");
        let wanted = match whole {
            true => "x-00002-of-00003.gguf: is missing: it is part 2 of 3 of the model",
            false => "its name must end in -00002-of-00003.gguf",
        };
        for verb in ["convert", "chat"] {
            let line = last_line(&ask(verb, &path));
            assert!(line.contains("error[GGUF]") && line.contains(wanted), "{verb}: {line}");
        }
    }
    part.put("split.no", Value::U16(3)).write(&path);
    assert!(stdout(&ask("inspect", &path)).contains("split.no is 3, and there are 3 parts"));
}

#[test]
fn files_that_are_not_gguf_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.gguf");
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9976576152\n";
    for (bytes, said) in [
        (pointer.as_bytes(), "is a Git LFS pointer"),
        (b"<!DOCTYPE html>\n<html><body>Not found</body></html>", "web page"),
        (b"{\"error\": \"Repository not found\"}", "message of a server"),
        (b"", "is empty"),
        (b"GG", "does not begin with 'GGUF'"),
        (&[0; 4096], "zeros"),
        (b"tjgg\x03\0\0\0", "before GGUF"),
        (b"GGUF\0\0\0\x03\0\0\0\0", "big-endian"),
    ] {
        fs::write(&path, bytes).unwrap();
        for verb in ["inspect", "verify", "convert", "chat"] {
            let output = ask(verb, &path);
            let line = last_line(&output);
            assert!(output.status.code() == Some(2) && line.contains(said), "{said} {verb}: {line}");
        }
    }
}

#[test]
fn text_of_a_file_does_not_act_on_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let mut made = lossless(dir.path());
    let evil = "\u{1b}]0;PWNED\u{7}\u{1b}[31m\u{9b}2J\u{202e}\r\n";
    made.put(&format!("key.{evil}"), Value::Str(format!("value {evil}")));
    made.put("array", Value::Array(Array::Str(vec![evil.into()])));
    made.put("llama.context_length", Value::Str(evil.into()));
    made.tensors[3].name = format!("t{evil}");
    let path = dir.path().join(format!("x{evil}.gguf"));
    made.write(&path);
    for args in [vec!["inspect"], vec!["verify"], vec!["verify", "--against", "tulu-tiny"], vec!["chat", "-p", "x"]] {
        let output = run(tulu_quant().env("TULU_QUANT_CACHE", dir.path()).args(&args).arg(&path), b"");
        let said = stdout(&output) + &String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("PWNED"), "{args:?}: {said}");
        assert!(!said.contains(['\u{1b}', '\u{7}', '\u{9b}', '\u{202e}', '\r']), "{args:?}: {said:?}");
    }
}

#[test]
fn model_names_are_resolved() {
    let dir = tempfile::tempdir().unwrap();
    let here = |args: &[&str]| {
        let mut command = tulu_quant();
        command.env("TULU_QUANT_CACHE", dir.path()).env("HF_HUB_CACHE", dir.path().join("hub")).args(args);
        run(&mut command, b"")
    };
    for verb in ["inspect", "verify"] {
        assert_eq!(here(&[verb, "tulu-tiny"]).status.code(), Some(0), "{verb}");
        for (name, said) in [
            ("tulu-2-7b", "no file of this model is on this machine; `tulu-quant pull`"),
            ("tulu-2-7b:Q8_0", "no file of this model is on this machine; `tulu-quant chat`"),
            ("tulu-tiny:Q8_0", "no file of this model is on this machine"),
            ("nothing.gguf", "there is no such file or folder"),
        ] {
            let line = last_line(&here(&[verb, name]));
            assert!(line.contains("error[NOT_FOUND]") && line.contains(said), "{verb} {name}: {line}");
        }
    }
    assert!(stdout(&here(&["inspect", "tulu-tiny"])).contains("feed-forward"));
    assert_eq!(here(&["chat", "tulu-tiny:Q8_0", "-p", "x", "-n", "1"]).status.code(), Some(0));
    assert_eq!(here(&["verify", "tulu-tiny:Q8_0", "--against", "tulu-tiny"]).status.code(), Some(0));
    assert!(stdout(&here(&["inspect", "tulu-tiny:Q8_0"])).contains("memory to run: "));
}
