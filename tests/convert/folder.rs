//! `convert`, `inspect` and `doctor` from outside: the real binary on the bundled checkpoint and on broken copies of it.

use crate::support::{last_line, run, tulu_quant};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tulu-tiny")
}

/// A copy of the bundled checkpoint that a test may break, beside an empty folder for outputs.
fn copy() -> (TempDir, PathBuf, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let (source, out) = (dir.path().join("source"), dir.path().join("out"));
    fs::create_dir_all(&source).unwrap();
    fs::create_dir_all(&out).unwrap();
    for entry in fs::read_dir(fixture()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, source.join(path.file_name().unwrap())).unwrap();
        }
    }
    (dir, source, out)
}

fn convert(source: &Path, out: &Path, args: &[&str]) -> Output {
    run(tulu_quant().arg("convert").arg(source).arg("-o").arg(out).args(args), b"")
}

fn listing(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|err| panic!("{err}: {output:?}"))
}

#[test]
fn three_types_in_one_pass_and_nothing_else_in_the_folder() {
    let (_dir, source, out) = copy();
    let out = out.join("made/when/missing");
    let output = convert(&source, &out, &["-q", "Q4_K_M,q5_k_m,Q8_0"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stdout.is_empty(), "stdout carries data only");
    assert_eq!(listing(&out), ["source-Q4_K_M.gguf", "source-Q5_K_M.gguf", "source-Q8_0.gguf"]);

    let shown = json(&run(tulu_quant().arg("inspect").arg(out.join("source-Q4_K_M.gguf")).arg("--json"), b""));
    assert_eq!(shown["type"], "Q4_K_M");
    assert_eq!(shown["metadata"]["general.architecture"], "llama");
    assert_eq!(shown["metadata"]["tokenizer.ggml.eos_token_id"], 2);
    let tokens = shown["metadata"]["tokenizer.ggml.tokens"].as_array().unwrap().len();
    assert_eq!(shown["metadata"]["llama.vocab_size"], tokens);
    let types: Vec<&str> = shown["tensors"].as_array().unwrap().iter().map(|t| t["type"].as_str().unwrap()).collect();
    assert!(types.contains(&"q4_K") && types.contains(&"q6_K") && types.contains(&"f32"), "{types:?}");
}

#[test]
fn the_plan_is_what_is_written() {
    let (_dir, source, out) = copy();
    let args = ["-q", "Q5_K_M,Q6_K", "--json"];
    let plan = json(&convert(&source, &out, &[&args[..], &["--dry-run"]].concat()));
    assert!(listing(&out).is_empty(), "a dry run writes nothing");
    let done = json(&convert(&source, &out, &args));
    assert!(done["seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(plan["outputs"], done["outputs"]);
    for planned in plan["outputs"].as_array().unwrap() {
        let path = planned["path"].as_str().unwrap();
        assert_eq!(fs::metadata(path).unwrap().len(), planned["bytes"]);
        let shown = json(&run(tulu_quant().args(["inspect", "--json", path]), b""));
        for (a, b) in planned["tensors"].as_array().unwrap().iter().zip(shown["tensors"].as_array().unwrap()) {
            for key in ["name", "type", "bytes", "offset"] {
                assert_eq!(a[key], b[key], "{path}");
            }
        }
    }
}

#[test]
fn a_folder_of_symbolic_links_as_the_hub_cache_has_converts_alike() {
    let (dir, source, out) = copy();
    // of the same name, which is in the file
    let links = dir.path().join("snapshot/source");
    fs::create_dir_all(&links).unwrap();
    for name in listing(&source) {
        std::os::unix::fs::symlink(source.join(&name), links.join(&name)).unwrap();
    }
    for (from, to) in [(&source, "a.gguf"), (&links, "b.gguf")] {
        assert_eq!(convert(from, &out.join(to), &["-q", "F16"]).status.code(), Some(0));
    }
    assert!(fs::read(out.join("a.gguf")).unwrap() == fs::read(out.join("b.gguf")).unwrap());
}

#[test]
fn a_lossless_gguf_file_is_a_source_too_and_a_quantized_one_only_when_asked() {
    let (_dir, source, out) = copy();
    assert_eq!(convert(&source, &out, &["-q", "BF16,Q8_0,Q4_K_M"]).status.code(), Some(0));
    let again = out.join("again");
    fs::create_dir(&again).unwrap();
    assert_eq!(convert(&out.join("source-BF16.gguf"), &again, &["-q", "Q4_K_M"]).status.code(), Some(0));
    assert_eq!(listing(&again), ["source-Q4_K_M.gguf"], "the name loses its type");
    let tensors = |path: PathBuf| {
        let shown = json(&run(tulu_quant().args(["inspect", "--json"]).arg(&path), b""));
        let start = shown["tensors"][0]["offset"].as_u64().unwrap();
        fs::read(path).unwrap().split_off(usize::try_from(start).unwrap())
    };
    assert!(tensors(out.join("source-Q4_K_M.gguf")) == tensors(again.join("source-Q4_K_M.gguf")));

    let refused = convert(&out.join("source-Q8_0.gguf"), &again, &["-q", "Q4_0"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(last_line(&refused).contains("error[REQUANTIZE]"), "{}", last_line(&refused));
    let asked = convert(&out.join("source-Q8_0.gguf"), &again, &["-q", "Q4_0", "--allow-requantize"]);
    assert_eq!(asked.status.code(), Some(0), "{asked:?}");
    let own = out.join("source-BF16.gguf");
    let itself = convert(&own, &own, &["-q", "Q4_0", "--force"]);
    assert!(last_line(&itself).contains("is one of the inputs"), "{}", last_line(&itself));
}

#[test]
fn a_checkpoint_folder_is_inspected_too() {
    let shown = json(&run(tulu_quant().arg("inspect").arg(fixture()).arg("--json"), b""));
    assert_eq!((&shown["bos"], &shown["eos"]), (&1.into(), &2.into()));
    assert_eq!(shown["shards"].as_array().unwrap().len(), 2);
    let one = json(&run(tulu_quant().args(["inspect", "--json"]).arg(fixture().join(FIRST)), b""));
    let first = shown["tensors"].as_array().unwrap().iter().filter(|t| t["shard"] == 0).count();
    assert_eq!(one["tensors"].as_array().unwrap().len(), first);
    let table = run(tulu_quant().arg("inspect").arg(fixture()), b"");
    assert!(String::from_utf8_lossy(&table.stdout).contains("model.layers.0.self_attn.q_proj.weight"));
}

/// How a copy is broken, and what must be said: code, and a part of the line.
type Case = (&'static str, fn(&Path), &'static str, &'static str);

fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut json: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut json);
    fs::write(path, json.to_string()).unwrap();
}

fn config(dir: &Path, key: &str, value: impl Into<Value>) {
    edit(&dir.join("config.json"), |json| json[key] = value.into());
}

const FIRST: &str = "model-00001-of-00002.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Replaces the header of the first shard, keeping the data.
fn header(dir: &Path, change: impl FnOnce(&str) -> String) {
    let path = dir.join(FIRST);
    let bytes = fs::read(&path).unwrap();
    let n = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let text = change(std::str::from_utf8(&bytes[8..8 + n]).unwrap());
    let mut out = (text.len() as u64).to_le_bytes().to_vec();
    out.extend(text.as_bytes());
    out.extend(&bytes[8 + n..]);
    fs::write(path, out).unwrap();
}

fn cut(path: &Path, bytes: u64) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() - bytes).unwrap();
}

const BROKEN: &[Case] = &[
    ("no folder", |dir| fs::remove_dir_all(dir).unwrap(), "NOT_FOUND", "source"),
    ("no config", |dir| fs::remove_file(dir.join("config.json")).unwrap(), "NOT_FOUND", "config.json"),
    ("config is cut", |dir| cut(&dir.join("config.json"), 5), "JSON", "config.json"),
    (
        "reward model",
        |dir| config(dir, "architectures", vec!["LlamaForSequenceClassification"]),
        "ARCHITECTURE",
        "reward or value model",
    ),
    (
        "other architecture",
        |dir| config(dir, "architectures", vec!["GPT2LMHeadModel"]),
        "ARCHITECTURE",
        "GPT2LMHeadModel",
    ),
    (
        "adapter",
        |dir| fs::rename(dir.join("config.json"), dir.join("adapter_config.json")).unwrap(),
        "ARCHITECTURE",
        "LoRA adapter",
    ),
    ("no heads", |dir| config(dir, "num_attention_heads", 0), "CONFIG", "num_attention_heads is 0"),
    ("heads that do not divide", |dir| config(dir, "num_attention_heads", 3), "CONFIG", "multiple"),
    ("too many layers", |dir| config(dir, "num_hidden_layers", 513), "CONFIG", "num_hidden_layers is 513"),
    ("one layer too many", |dir| config(dir, "num_hidden_layers", 7), "TENSOR_MISSING", "model.layers.6."),
    ("one layer too few", |dir| config(dir, "num_hidden_layers", 5), "TENSOR_UNKNOWN", "model.layers.5."),
    ("other width", |dir| config(dir, "intermediate_size", 512), "TENSOR_SHAPE", "mlp."),
    ("bad epsilon", |dir| config(dir, "rms_norm_eps", -1.0), "CONFIG", "rms_norm_eps"),
    ("rope scaling", |dir| config(dir, "rope_scaling", serde_json::json!({"type": "yarn"})), "CONFIG", "yarn"),
    ("missing shard", |dir| fs::remove_file(dir.join(FIRST)).unwrap(), "INDEX_SHARDS", FIRST),
    ("cut shard", |dir| cut(&dir.join(FIRST), 1), "ST_END", FIRST),
    ("shard of 4 bytes", |dir| fs::write(dir.join(FIRST), "abcd").unwrap(), "ST_LENGTH", "4 bytes"),
    (
        "header length lie",
        |dir| {
            let mut bytes = fs::read(dir.join(FIRST)).unwrap();
            bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
            fs::write(dir.join(FIRST), bytes).unwrap();
        },
        "ST_LENGTH",
        "18446744073709551615",
    ),
    ("header is no JSON", |dir| header(dir, |text| text.replacen(':', ";", 1)), "ST_HEADER", "offset 8"),
    ("header is a list", |dir| header(dir, |_| "[]".to_owned()), "ST_HEADER", "'{'"),
    ("type lie", |dir| header(dir, |text| text.replacen("BF16", "F4", 1)), "ST_DTYPE", "F4"),
    ("size lie", |dir| header(dir, |text| text.replacen("BF16", "F32", 1)), "ST_SIZE", "data_offsets"),
    (
        "huge shape",
        |dir| header(dir, |text| text.replacen("\"shape\":[", "\"shape\":[9223372036854775808,", 1)),
        "ST_SIZE",
        "9223372036854775808",
    ),
    (
        "duplicate tensor",
        |dir| {
            header(dir, |text| {
                let entry = &text[1..text.find("},").unwrap() + 1];
                let entry = if entry.starts_with("\"__metadata__") {
                    let rest = &text[text.find("},").unwrap() + 2..];
                    rest[..rest.find('}').unwrap() + 1].to_owned()
                } else {
                    entry.to_owned()
                };
                format!("{{{entry},{}", &text[1..])
            });
        },
        "ST_DUPLICATE",
        "stands twice",
    ),
    ("hole", |dir| fs::write(dir.join(FIRST), hole()).unwrap(), "ST_HOLE", "leaves a hole"),
    (
        "path in the index",
        |dir| edit(&dir.join(INDEX), |json| json["weight_map"]["lm_head.weight"] = "../elsewhere.safetensors".into()),
        "INDEX_PATH",
        "../elsewhere.safetensors",
    ),
    (
        "index without a tensor",
        |dir| edit(&dir.join(INDEX), |json| drop(json["weight_map"].as_object_mut().unwrap().remove("lm_head.weight"))),
        "INDEX_TENSORS",
        "lm_head.weight",
    ),
    (
        "index with a tensor too many",
        |dir| edit(&dir.join(INDEX), |json| json["weight_map"]["ghost.weight"] = FIRST.into()),
        "INDEX_TENSORS",
        "ghost.weight",
    ),
    (
        "no weights",
        |dir| {
            [FIRST, "model-00002-of-00002.safetensors", INDEX]
                .iter()
                .for_each(|n| fs::remove_file(dir.join(n)).unwrap());
        },
        "NO_WEIGHTS",
        ".bin",
    ),
    (
        "a .bin that is none",
        |dir| {
            [FIRST, "model-00002-of-00002.safetensors", INDEX]
                .iter()
                .for_each(|n| fs::remove_file(dir.join(n)).unwrap());
            fs::write(dir.join("pytorch_model.bin"), "x").unwrap();
        },
        "TORCH_FORMAT",
        "pytorch_model.bin",
    ),
    ("no tokenizer", |dir| fs::remove_file(dir.join("tokenizer.model")).unwrap(), "TOKENIZER", "tokenizer.model"),
    ("cut tokenizer", |dir| cut(&dir.join("tokenizer.model"), 3), "TOKENIZER", "SentencePiece"),
    (
        "tokenizer is text",
        |dir| fs::write(dir.join("tokenizer.model"), "hello").unwrap(),
        "TOKENIZER",
        "tokenizer.model",
    ),
    ("smaller embedding", |dir| config(dir, "vocab_size", 300), "TOKENIZER", "300 rows"),
    (
        "unknown end token",
        |dir| {
            for name in ["tokenizer_config.json", "special_tokens_map.json"] {
                edit(&dir.join(name), |json| json["eos_token"] = "<end>".into());
            }
        },
        "TOKENIZER",
        "<end>",
    ),
    (
        "weight that is not a number",
        |dir| {
            let path = dir.join("model-00002-of-00002.safetensors");
            let mut bytes = fs::read(&path).unwrap();
            let end = bytes.len();
            bytes[end - 2..].copy_from_slice(&[0xc0, 0x7f]);
            fs::write(path, bytes).unwrap();
        },
        "TENSOR_VALUE",
        "NaN at row",
    ),
];

/// A file whose first tensor does not start where the data does.
fn hole() -> Vec<u8> {
    let text = r#"{"lm_head.weight":{"dtype":"BF16","shape":[2],"data_offsets":[4,8]}}"#;
    let mut out = (text.len() as u64).to_le_bytes().to_vec();
    out.extend(text.as_bytes());
    out.extend([0; 8]);
    out
}

#[test]
fn every_broken_checkpoint_gets_one_clear_line_and_leaves_nothing() {
    for (name, break_it, code, said) in BROKEN {
        let (_dir, source, out) = copy();
        break_it(&source);
        let output = convert(&source, &out, &["-q", "Q4_K_M,Q8_0"]);
        let line = last_line(&output);
        assert_eq!(output.status.code(), Some(2), "{name}: {output:?}");
        assert!(line.starts_with(&format!("tulu-quant: error[{code}]: ")) && line.contains(said), "{name}: {line}");
        assert!(line.contains("; "), "{name} does not say what to do: {line}");
        assert!(listing(&out).is_empty(), "{name} left {:?}", listing(&out));
    }
}

#[test]
fn requests_that_cannot_be_met_are_refused_before_any_work() {
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
fn an_error_is_a_json_object_when_asked() {
    let output = run(tulu_quant().args(["--error-format", "json", "convert", "/nowhere/at/all"]), b"");
    let error: Value = serde_json::from_str(&last_line(&output)).unwrap();
    assert_eq!((&error["error"]["code"], &error["error"]["exit"]), (&"NOT_FOUND".into(), &2.into()));
}

/// Starts a conversion to several types on one thread: about a second of work.
fn start(source: &Path, out: &Path) -> Child {
    let all = "F32,BF16,Q8_0,Q6_K,Q5_K_M,Q4_K_M";
    let mut command = tulu_quant();
    command.args(["convert", "-q", all, "-t", "1", "-o"]).args([out, source]).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// Starts a conversion and ends it after `after` with `signal`.
fn interrupted(source: &Path, out: &Path, after: Duration, signal: &str) -> std::process::ExitStatus {
    let mut child = start(source, out);
    std::thread::sleep(after);
    Command::new("kill").args([signal, &child.id().to_string()]).stderr(Stdio::null()).status().unwrap();
    child.wait().unwrap()
}

#[test]
fn a_conversion_killed_at_any_moment_leaves_whole_files_or_none() {
    let (_dir, source, out) = copy();
    let begun = Instant::now();
    assert!(start(&source, &out).wait().unwrap().success());
    let whole = begun.elapsed();
    let sizes: Vec<(String, u64)> =
        listing(&out).into_iter().map(|n| (n.clone(), fs::metadata(out.join(n)).unwrap().len())).collect();
    assert_eq!(sizes.len(), 6);
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
    println!("seed {seed}");
    let mut state = seed;
    for signal in ["-KILL", "-INT", "-TERM"].into_iter().cycle().take(18) {
        sizes.iter().for_each(|(name, _)| drop(fs::remove_file(out.join(name))));
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let status = interrupted(&source, &out, whole.mul_f64(f64::from(state >> 8) / f64::from(1 << 24)), signal);
        for name in listing(&out) {
            let expected = sizes.iter().find(|(n, _)| *n == name);
            assert_eq!(
                expected.map(|(_, n)| *n),
                Some(fs::metadata(out.join(&name)).unwrap().len()),
                "{signal}: {name}"
            );
        }
        let code = status.code();
        match signal {
            "-INT" => assert!(matches!(code, None | Some(0 | 130)), "{status}"),
            "-TERM" => assert!(matches!(code, None | Some(0 | 143)), "{status}"),
            _ => {}
        }
        if code.is_some_and(|c| c != 0) {
            assert!(listing(&out).is_empty(), "{signal} left {:?}", listing(&out));
        }
    }
}

#[test]
#[ignore = "needs root, to mount a small tmpfs"]
fn root_a_full_disk_is_said_at_once_with_what_is_needed() {
    let (dir, source, _out) = copy();
    let disk = dir.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&disk).status().unwrap();
    assert!(mounted.success());
    let output = convert(&source, &disk, &["-q", "Q4_K_M"]);
    let left = listing(&disk);
    Command::new("umount").arg(&disk).status().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(last_line(&output).starts_with("tulu-quant: error[DISK_FULL]: "), "{}", last_line(&output));
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn doctor_runs_real_matrix_products_and_finds_them_right() {
    let found = json(&run(tulu_quant().args(["doctor", "--json"]), b""));
    let tests = found["self_test"].as_array().unwrap_or_else(|| panic!("{found}"));
    for kind in ["q4_K", "q8_0"] {
        assert!(tests.iter().any(|t| t["type"] == kind && t["ok"] == true), "{found}");
    }
    assert_eq!(found["pin"]["ggml"], found["ggml"]);
}
