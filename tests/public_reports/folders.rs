//! Checkpoint folders for the reports: copies of the bundled one that a row changes.

use serde_json::{Map, Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A copy of the bundled checkpoint, in a folder of its own called `source`.
pub(crate) fn copy() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    fs::create_dir(&source).unwrap();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tulu-tiny")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, source.join(path.file_name().unwrap())).unwrap();
        }
    }
    (dir, source)
}

/// Puts the keys of `change` into the JSON file `name`; `null` takes a key out.
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

/// Names of the bundled checkpoint's weight files.
pub(crate) const SHARDS: [&str; 2] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
/// Name of its index.
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// All tensors of the checkpoint in `dir`, changed, as one file in place of the two.
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

/// Gives the vocabulary `rows` rows; new ones are zeros.
pub(crate) fn resize(dir: &Path, rows: u64) {
    edit(dir, "config.json", &json!({"vocab_size": rows}));
    weights(dir, |tensors| {
        for t in tensors.iter_mut().filter(|t| t.shape.first() == Some(&1536) && t.shape.len() == 2) {
            t.shape[0] = rows;
            t.bytes.resize((rows * t.shape[1] * 2) as usize, 0);
        }
    });
}
