//! `verify`: a good file, damaged files, and files of another source.

use crate::support::checkpoint::{bundled, copy_to};
use crate::support::gguf::GgufFile;
use crate::support::{last_line, run, tulu_quant};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Output;
use tulu_quantize::gguf;

fn convert(types: &str, out: &Path) {
    let output = run(tulu_quant().args(["convert", "-q", types, "-o"]).args([out, &bundled()]), b"");
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
fn more_bits_are_closer_to_the_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let types = ["F32", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K"];
    convert(&types.join(","), dir.path());
    let mut before = 0.0;
    for name in types {
        let file = dir.path().join(format!("tulu-tiny-{name}.gguf"));
        let (output, json) = verify(&file, &[&bundled()]);
        assert_eq!(output.status.code(), Some(0), "{name}: {json}");
        assert_eq!(json["sha256"].as_str().map(str::len), Some(64));
        let gate = json["tensors"].as_array().unwrap().iter().find(|t| t["name"] == "blk.2.ffn_gate.weight").unwrap();
        let rmse = gate["rmse"].as_f64().unwrap();
        assert!(rmse > before || name == "F32", "{name}: {rmse} after {before}");
        before = rmse;
    }
    // the same result against a lossless GGUF file and against its checkpoint
    let (file, lossless) = (dir.path().join("tulu-tiny-Q4_K_M.gguf"), dir.path().join("tulu-tiny-F32.gguf"));
    assert_eq!(verify(&file, &[&bundled()]).1["tensors"], verify(&file, &[&lossless]).1["tensors"]);
}

#[test]
fn broken_block_is_found_and_named() {
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
    assert_eq!(wrong_tensors(&json), ["blk.3.ffn_up.weight"]);
    let table = run(tulu_quant().arg("verify").arg(&file), b"");
    assert!(String::from_utf8_lossy(&table.stdout).contains("WRONG: tensor 'blk.3.ffn_up.weight'"));
}

#[test]
fn exchanged_weights_are_found_against_the_source() {
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
    let (output, json) = verify(&file, &[&bundled()]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(wrong_tensors(&json), ["blk.1.ffn_gate.weight", "blk.1.ffn_up.weight"]);
}

#[test]
fn false_header_is_refused() {
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

/// Verifies a changed copy of a converted file against the checkpoint.
fn changed(dir: &Path, types: &str, change: impl FnOnce(&mut GgufFile)) -> (Output, Value) {
    let good = dir.join(format!("tulu-tiny-{types}.gguf"));
    if !good.exists() {
        convert(types, dir);
    }
    let mut made = GgufFile::read(&good);
    change(&mut made);
    let path = dir.join("changed.gguf");
    made.write(&path);
    verify(&path, &[&bundled()])
}

/// Names of the tensors with a problem.
fn wrong_tensors(json: &Value) -> Vec<&str> {
    let tensors = json["tensors"].as_array().unwrap().iter().filter(|t| !t["problem"].is_null());
    tensors.map(|t| t["name"].as_str().unwrap()).collect()
}

fn problems(json: &Value) -> Vec<String> {
    let file = json["problems"].as_array().unwrap().iter().map(|p| p.as_str().unwrap().to_owned());
    let tensors = json["tensors"].as_array().unwrap().iter().filter(|t| !t["problem"].is_null());
    file.chain(tensors.map(|t| format!("{} {}", t["name"].as_str().unwrap(), t["problem"].as_str().unwrap()))).collect()
}

#[test]
fn zeroed_block_is_found_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    for (types, block) in
        [("Q8_0", 34 * 8), ("Q6_K", 210), ("Q4_K_S", 144), ("Q3_K_S", 110), ("Q2_K", 84), ("BF16", 512)]
    {
        let (output, json) = changed(dir.path(), types, |made| {
            let tensor = made.tensor("blk.1.attn_q.weight");
            let n = tensor.bytes.len() / block;
            let at = n / 2 * block;
            tensor.bytes[at..at + block].fill(0);
        });
        let found = problems(&json);
        assert_eq!((output.status.code(), found.len()), (Some(1), 1), "{types}: {found:?}");
        assert!(found[0].contains("blk.1.attn_q.weight") && found[0].contains("row 128"), "{types}: {found:?}");
        assert!(found[0].contains("columns 0 to 255"), "{types}: {found:?}");
    }
}

#[test]
fn other_numbers_and_vocabulary_are_found_against_the_source() {
    type Change = (&'static str, fn(&mut GgufFile));
    let changes: &[Change] = &[
        ("llama.rope.freq_base is 500000, the source has 10000", |m| {
            m.put("llama.rope.freq_base", gguf::Value::F32(500_000.0));
        }),
        ("llama.context_length is 7", |m| {
            m.put("llama.context_length", gguf::Value::U32(7));
        }),
        ("llama.rope.scaling.factor is 4, the source has no such key", |m| {
            m.put("llama.rope.scaling.factor", gguf::Value::F32(4.0));
        }),
        ("tokenizer.chat_template is missing", |m| m.pairs.retain(|(key, _)| key != "tokenizer.chat_template")),
        ("tokenizer.ggml.eos_token_id is 1, the source has 2", |m| {
            m.put("tokenizer.ggml.eos_token_id", gguf::Value::U32(1));
        }),
        ("tokenizer.ggml.tokens has \"nonsense\" at 700", |m| {
            let (_, value) = m.pairs.iter_mut().find(|(key, _)| key == "tokenizer.ggml.tokens").unwrap();
            let gguf::Value::Array(gguf::Array::Str(tokens)) = value else { panic!("{value}") };
            tokens[700] = "nonsense".to_owned();
        }),
        ("tokenizer.ggml.scores has ", |m| {
            let (_, value) = m.pairs.iter_mut().find(|(key, _)| key == "tokenizer.ggml.scores").unwrap();
            let gguf::Value::Array(gguf::Array::F32(scores)) = value else { panic!("{value}") };
            scores[700] += 1.0;
        }),
        ("tensor 'blk.0.ffn_up.weight' is missing", |m| m.tensors.retain(|t| t.name != "blk.0.ffn_up.weight")),
        ("nonsense is not in the source", |m| m.tensors[3].name = "nonsense".to_owned()),
        ("has no tensors", |m| m.tensors.clear()),
    ];
    let dir = tempfile::tempdir().unwrap();
    for (said, change) in changes {
        let (output, json) = changed(dir.path(), "Q8_0", change);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(problems(&json).iter().any(|problem| problem.contains(said)), "{said}: {:?}", problems(&json));
    }
    // changes that do not change the model are no problem
    let (output, json) = changed(dir.path(), "Q8_0", |m| {
        m.put("general.name", gguf::Value::Str("renamed".into())).put("my.key", gguf::Value::Bool(true));
        m.pairs.retain(|(key, _)| !key.ends_with("key_length") && !key.starts_with("tulu_quant."));
    });
    assert_eq!((output.status.code(), problems(&json)), (Some(0), Vec::new()));
}

#[test]
fn missing_tensors_are_found_from_the_header() {
    let dir = tempfile::tempdir().unwrap();
    convert("Q8_0", dir.path());
    let good = GgufFile::read(&dir.path().join("tulu-tiny-Q8_0.gguf"));
    let path = dir.path().join("x.gguf");
    type Change = (&'static str, fn(&mut GgufFile));
    let changes: &[Change] = &[
        ("has no tensors", |m| m.tensors.clear()),
        ("tensor 'blk.0.ffn_up.weight' is missing", |m| m.tensors.retain(|t| t.name != "blk.0.ffn_up.weight")),
        ("unexpected tensor 'odd'", |m| m.tensors[9].name = "odd".to_owned()),
        ("the header's numbers require", |m| m.tensor("output_norm.weight").dims = vec![128, 2]),
        ("llama.block_count is missing", |m| m.pairs.retain(|(key, _)| key != "llama.block_count")),
        ("tensor 'blk.99.ffn_up.weight' is missing", |m| {
            m.put("llama.block_count", gguf::Value::U32(100));
        }),
    ];
    for (said, change) in changes {
        let mut made = good.clone();
        change(&mut made);
        made.write(&path);
        let (output, json) = verify(&path, &[]);
        assert_eq!(output.status.code(), Some(1), "{said}");
        let found = problems(&json);
        let more = said.contains("blk.99") && found.iter().any(|p| p.contains("more of this kind"));
        assert!(more || found.iter().any(|problem| problem.contains(said)), "{said}: {found:?}");
        // chat refuses it, too
        let chat = run(tulu_quant().args(["chat", "-p", "x"]).arg(&path), b"");
        assert_eq!(chat.status.code(), Some(2), "{said}: {}", last_line(&chat));
        assert!(last_line(&chat).contains("error[MODEL]"), "{said}: {}", last_line(&chat));
    }
}

#[test]
fn trailing_bytes_and_wrong_sha256_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    convert("Q4_K_M", dir.path());
    let file = dir.path().join("tulu-tiny-Q4_K_M.gguf");
    let (_, json) = verify(&file, &[]);
    let sum = json["sha256"].as_str().unwrap().to_owned();
    let with = |sum: &str| run(tulu_quant().args(["verify", "--sha256", sum]).arg(&file), b"");
    assert_eq!(with(&sum).status.code(), Some(0));
    assert_eq!(with(&format!("sha256:{}  x.gguf", sum.to_uppercase())).status.code(), Some(0));
    let wrong = with(&"0".repeat(64));
    assert_eq!(wrong.status.code(), Some(1));
    let said = format!("WRONG: has the sha256 {sum}, not 000");
    assert!(String::from_utf8_lossy(&wrong.stdout).contains(&said), "{wrong:?}");
    let bad = with("xyz");
    assert!(bad.status.code() == Some(2) && last_line(&bad).contains("64 hexadecimal digits"), "{bad:?}");
    let mut bytes = fs::read(&file).unwrap();
    bytes.extend([0; 4096]);
    fs::write(&file, &bytes).unwrap();
    let (output, json) = verify(&file, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(problems(&json), [format!("4096 bytes follow the last tensor, from byte {}", bytes.len() - 4096)]);
    assert_eq!(json["sha256"], crate::support::sha256(&bytes));
}

/// Broken blocks are in the report, and ggml prints nothing on stderr.
#[test]
fn stderr_is_silent_about_broken_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let (output, json) = changed(dir.path(), "Q8_0", |made| made.tensor("blk.1.ffn_up.weight").bytes.fill(0xff));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(problems(&json)[0].contains("has a block with a NaN or infinite scale at row 0, column 0"), "{json}");
}

#[test]
fn checkpoint_is_checked_against_the_hashes_of_its_folder() {
    let dir = tempfile::tempdir().unwrap();
    let commit = "0123456789".repeat(4);
    let snapshot = dir.path().join("models--me--tiny/snapshots").join(&commit);
    let blobs = dir.path().join("models--me--tiny/blobs");
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(&blobs).unwrap();
    fs::create_dir_all(dir.path().join("models--me--tiny/refs")).unwrap();
    fs::write(dir.path().join("models--me--tiny/refs/main"), &commit).unwrap();
    for entry in fs::read_dir(bundled()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        let sum = crate::support::sha256(&bytes);
        fs::write(blobs.join(&sum), &bytes).unwrap();
        std::os::unix::fs::symlink(Path::new("../../blobs").join(sum), snapshot.join(path.file_name().unwrap()))
            .unwrap();
    }
    let ask = |what: &std::ffi::OsStr| {
        let output = run(tulu_quant().env("HF_HUB_CACHE", dir.path()).args(["verify", "--json"]).arg(what), b"");
        let json: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        let files = json["files"].as_array().into_iter().flatten();
        let wrong = files.flat_map(|file| file["problems"].as_array().unwrap().clone());
        (output.status.code(), wrong.map(|p| p.as_str().unwrap().to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(ask(snapshot.as_os_str()), (Some(0), Vec::new()));
    assert_eq!(ask("me/tiny".as_ref()), (Some(0), Vec::new()));
    // one bit of a weight, and one byte of a small file
    for (file, at) in [("model-00001-of-00002.safetensors", 100_000), ("config.json", 30)] {
        let blob = fs::canonicalize(snapshot.join(file)).unwrap();
        let good = fs::read(&blob).unwrap();
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        fs::write(&blob, bytes).unwrap();
        let (code, wrong) = ask("me/tiny".as_ref());
        assert!(code == Some(1) && wrong[0].starts_with("has the sha256 "), "{file}: {code:?} {wrong:?}");
        fs::write(&blob, &good).unwrap();
    }
    // without known hashes: a NaN, and a truncated file
    let plain = dir.path().join("plain");
    copy_to(&plain);
    assert_eq!(ask(plain.as_os_str()), (Some(0), Vec::new()));
    let weights = plain.join("model-00002-of-00002.safetensors");
    let good = fs::read(&weights).unwrap();
    let mut bytes = good.clone();
    let end = bytes.len();
    bytes[end - 2..].copy_from_slice(&[0xc0, 0x7f]);
    fs::write(&weights, &bytes).unwrap();
    let (code, wrong) = ask(plain.as_os_str());
    assert!(code == Some(1) && wrong.len() == 1 && wrong[0].contains("has NaN at row"), "{code:?} {wrong:?}");
    fs::write(&weights, &good[..end - 1]).unwrap();
    assert_eq!(ask(plain.as_os_str()).0, Some(1));
    let folder = run(tulu_quant().arg("verify").arg(dir.path()), b"");
    assert_eq!(folder.status.code(), Some(2), "no checkpoint: {folder:?}");
}
