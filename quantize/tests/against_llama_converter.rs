//! The conversion of the bundled checkpoint equals that of llama.cpp's converter: every key with its type and value,
//! and every tensor. golden/summarise.py describes how the golden file was made.

use crate::support::{convert_to, sha256};
use serde_json::{Value as Json, json};
use std::path::Path;
use tulu_quantize::Ftype;
use tulu_quantize::gguf::{Array, Gguf, Value};

/// A value as summarise.py writes it.
fn summary(value: &Value) -> Json {
    let array = |len: usize, bytes: Vec<u8>| json!({"len": len, "sha256": sha256(&bytes)});
    match value {
        Value::U32(n) => json!({"type": "uint32", "value": n}),
        Value::F32(x) => json!({"type": "float32", "value": f64::from(*x)}),
        Value::Bool(b) => json!({"type": "bool", "value": b}),
        Value::Str(text) => json!({"type": "string", "value": text}),
        Value::Array(Array::Str(v)) => {
            let bytes = v.iter().flat_map(|t| [&(t.len() as u64).to_le_bytes()[..], t.as_bytes()].concat());
            json!({"type": "array/string", "value": array(v.len(), bytes.collect())})
        }
        Value::Array(Array::F32(v)) => {
            json!({"type": "array/float32", "value": array(v.len(), v.iter().flat_map(|x| x.to_le_bytes()).collect())})
        }
        Value::Array(Array::I32(v)) => {
            json!({"type": "array/int32", "value": array(v.len(), v.iter().flat_map(|x| x.to_le_bytes()).collect())})
        }
        other => panic!("no Tulu model has {other:?}"),
    }
}

#[test]
fn bundled_checkpoint_converts_like_llama_cpps_converter() {
    assert_equal("tulu-tiny");
}

/// A byte-level tokenizer.json, rows without a token, a scaled rotary embedding. The converter does not know the hash of
/// this vocabulary's ids, so its `get_vocab_base_pre` was replaced by one that returns `llama-bpe`.
#[test]
fn llama_3_checkpoint_converts_like_llama_cpps_converter() {
    assert_equal("tulu3-tiny");
}

/// Converts the fixture `name` to BF16 and compares every key and tensor with the golden file.
fn assert_equal(name: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let golden = std::fs::read_to_string(root.join(format!("tests/golden/{name}-bf16.json"))).unwrap();
    let golden: Json = serde_json::from_str(&golden).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ours.gguf");
    convert_to(&root.join("../tests/fixtures").join(name), &path, Ftype::BF16).unwrap();
    let ours = Gguf::open(&path).unwrap();

    // our general.name is the folder's name (llama.cpp writes "Tulu Tiny"), and only we write the provenance
    let own = |key: &str| key == "general.name" || key.starts_with("tulu_quant.");
    let keys: serde_json::Map<_, _> =
        ours.pairs.iter().filter(|(key, _)| !own(key)).map(|(key, value)| (key.clone(), summary(value))).collect();
    let mut theirs = golden["keys"].as_object().unwrap().clone();
    theirs.remove("general.name");
    assert_eq!(keys.len(), theirs.len());
    for (key, value) in &theirs {
        assert_eq!(keys.get(key), Some(value), "{key}");
    }
    let bytes = std::fs::read(&path).unwrap();
    let tensors = golden["tensors"].as_object().unwrap();
    assert_eq!(ours.tensors.len(), tensors.len());
    for t in &ours.tensors {
        let data = &bytes[t.offset as usize..(t.offset + t.bytes) as usize];
        let found = json!({"dims": t.dims, "sha256": sha256(data), "type": t.ggml_type.name()});
        assert_eq!(Some(&found), tensors.get(&t.name), "{}", t.name);
    }
}
