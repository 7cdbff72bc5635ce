//! `convert` of broken checkpoints, one row each: one line that says where and what to do, and no file.

use crate::support::checkpoint::{INDEX, SHARDS, convert, copy, listing};
use crate::support::last_line;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// A name, a function that breaks a copy, the expected code, and a part of the line.
type Case = (&'static str, fn(&Path), &'static str, &'static str);

fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut json: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut json);
    fs::write(path, json.to_string()).unwrap();
}

fn config(dir: &Path, key: &str, value: impl Into<Value>) {
    edit(&dir.join("config.json"), |json| json[key] = value.into());
}

/// Replaces the header of the first shard, keeping the data.
fn header(dir: &Path, change: impl FnOnce(&str) -> String) {
    let path = dir.join(SHARDS[0]);
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
    ("rope scaling", |dir| config(dir, "rope_scaling", serde_json::json!({"type": "dynamic"})), "CONFIG", "dynamic"),
    ("missing shard", |dir| fs::remove_file(dir.join(SHARDS[0])).unwrap(), "INDEX_SHARDS", SHARDS[0]),
    ("cut shard", |dir| cut(&dir.join(SHARDS[0]), 1), "ST_END", SHARDS[0]),
    ("shard of 4 bytes", |dir| fs::write(dir.join(SHARDS[0]), "abcd").unwrap(), "ST_LENGTH", "4 bytes"),
    (
        "header length lie",
        |dir| {
            let mut bytes = fs::read(dir.join(SHARDS[0])).unwrap();
            bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
            fs::write(dir.join(SHARDS[0]), bytes).unwrap();
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
        "the header lists tensor",
    ),
    ("hole", |dir| fs::write(dir.join(SHARDS[0]), hole()).unwrap(), "ST_HOLE", "leaves a hole"),
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
        |dir| edit(&dir.join(INDEX), |json| json["weight_map"]["ghost.weight"] = SHARDS[0].into()),
        "INDEX_TENSORS",
        "ghost.weight",
    ),
    (
        "no weights",
        |dir| {
            [SHARDS[0], "model-00002-of-00002.safetensors", INDEX]
                .iter()
                .for_each(|n| fs::remove_file(dir.join(n)).unwrap());
        },
        "NO_WEIGHTS",
        ".bin",
    ),
    (
        "a .bin that is none",
        |dir| {
            [SHARDS[0], "model-00002-of-00002.safetensors", INDEX]
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
fn broken_checkpoints_get_one_clear_line_and_leave_no_files() {
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
