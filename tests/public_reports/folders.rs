//! Checkpoint folders for the reports, and what the program makes of them.

use crate::support::checkpoint::{INDEX, SHARDS};
use crate::support::{run, tulu_quant};
use serde_json::{Map, Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

/// Sets the keys of `change` in the JSON file `name`; `null` removes a key.
pub(crate) fn edit(dir: &Path, name: &str, change: &Value) {
    let path = dir.join(name);
    let text = fs::read(&path).unwrap_or_else(|_| b"{}".to_vec());
    let mut json: Map<String, Value> = serde_json::from_slice(&text).unwrap();
    for (key, value) in change.as_object().unwrap() {
        match value {
            Value::Null => drop(json.remove(key)),
            value => drop(json.insert(key.clone(), value.clone())),
        }
    }
    fs::write(path, Value::Object(json).to_string()).unwrap();
}

/// One tensor of a safetensors file.
#[derive(Clone)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) dtype: String,
    pub(crate) shape: Vec<u64>,
    pub(crate) bytes: Vec<u8>,
}

/// Changes the tensors of the checkpoint in `dir`, and writes them to one file in place of the two.
pub(crate) fn weights(dir: &Path, change: impl FnOnce(&mut Vec<Tensor>)) {
    let mut tensors: Vec<Tensor> = SHARDS.iter().flat_map(|name| read(&dir.join(name))).collect();
    change(&mut tensors);
    for name in SHARDS.iter().chain([&INDEX]) {
        fs::remove_file(dir.join(name)).unwrap();
    }
    fs::write(dir.join("model.safetensors"), safetensors(&tensors)).unwrap();
}

fn read(path: &Path) -> Vec<Tensor> {
    let bytes = fs::read(path).unwrap();
    let n = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Map<String, Value> = serde_json::from_slice(&bytes[8..8 + n]).unwrap();
    let of = |(name, entry): (String, Value)| {
        let at = |i: usize| 8 + n + entry["data_offsets"][i].as_u64().unwrap() as usize;
        Tensor {
            name,
            dtype: entry["dtype"].as_str().unwrap().to_owned(),
            shape: entry["shape"].as_array().unwrap().iter().map(|d| d.as_u64().unwrap()).collect(),
            bytes: bytes[at(0)..at(1)].to_vec(),
        }
    };
    header.into_iter().filter(|(name, _)| name != "__metadata__").map(of).collect()
}

/// A safetensors file of these tensors.
fn safetensors(tensors: &[Tensor]) -> Vec<u8> {
    let (mut header, mut at) = (Map::new(), 0);
    for t in tensors {
        let entry = json!({"dtype": t.dtype, "shape": t.shape, "data_offsets": [at, at + t.bytes.len()]});
        header.insert(t.name.clone(), entry);
        at += t.bytes.len();
    }
    let text = Value::Object(header).to_string();
    let mut out = (text.len() as u64).to_le_bytes().to_vec();
    out.extend(text.as_bytes());
    tensors.iter().for_each(|t| out.extend(&t.bytes));
    out
}

/// Resizes the vocabulary to `rows` rows; new rows are zeros.
pub(crate) fn resize(dir: &Path, rows: u64) {
    edit(dir, "config.json", &json!({"vocab_size": rows}));
    weights(dir, |tensors| {
        for t in tensors.iter_mut().filter(|t| t.shape.first() == Some(&1536) && t.shape.len() == 2) {
            t.shape[0] = rows;
            t.bytes.resize((rows * t.shape[1] * 2) as usize, 0);
        }
    });
}

/// The golden file `name` as JSON.
pub(crate) fn golden(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/public_reports").join(name);
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Runs `convert --dry-run`, which prints all notes and most errors and writes nothing.
pub(crate) fn plan(source: &Path) -> Output {
    run(tulu_quant().arg("convert").arg(source).args(["-q", "Q8_0", "--dry-run"]), b"")
}

/// Converts `source` to a Q8_0 file beside it. Returns its path.
pub(crate) fn converted(source: &Path) -> PathBuf {
    let out = source.with_file_name("out.gguf");
    let output = run(tulu_quant().arg("convert").arg(source).args(["-q", "Q8_0", "-o"]).arg(&out), b"");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    out
}

/// Text and token ids of a conversation with the model in `path`.
pub(crate) fn prompt(path: &Path, messages: &Value) -> (String, Vec<u64>) {
    let output = run(tulu_quant().args(["prompt", "--json", "-i", "-"]).arg(path), messages.to_string().as_bytes());
    let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|err| panic!("{err}: {output:?}"));
    let ids = said["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect();
    (said["text"].as_str().unwrap().to_owned(), ids)
}

/// Writes the file `name` in `dir`.
pub(crate) fn write(dir: &Path, name: &str, text: &str) {
    fs::write(dir.join(name), text).unwrap();
}

/// Changes config.json.
pub(crate) fn config(dir: &Path, change: Value) {
    edit(dir, "config.json", &change);
}
