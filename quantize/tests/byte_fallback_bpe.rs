//! Checkpoints whose only tokenizer file is a tokenizer.json with byte fallback, as Transformers 5 saves Llama 2.

use crate::fixtures::{Checkpoint as Shape, bpe::added};
use crate::support::{convert_to, edit};
use serde_json::{Value as Json, json};
use std::fs;
use std::path::Path;
use tulu_quantize::gguf::{Array, Gguf, Value};
use tulu_quantize::{Checkpoint, Code, Ftype};

/// Three special tokens, 256 bytes, then these. The merges make `▁a` before `ab`.
const PIECES: [&str; 7] = ["\u{2581}", "a", "b", "\u{2581}a", "ab", "\u{2581}ab", "\u{2581}\u{2581}"];

fn tokenizer_json() -> Json {
    let mut vocab = serde_json::Map::new();
    let bytes = (0..=255_u8).map(|byte| format!("<0x{byte:02X}>"));
    let all = ["<unk>", "<s>", "</s>"].map(str::to_owned).into_iter().chain(bytes).chain(PIECES.map(str::to_owned));
    (0..).zip(all).for_each(|(id, text)| drop(vocab.insert(text, Json::from(id))));
    json!({
        "added_tokens": [added(0, "<unk>", true), added(1, "<s>", true), added(2, "</s>", true)],
        "normalizer": null,
        "pre_tokenizer": {"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "first", "split": false},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": []},
        "decoder": {"type": "Sequence", "decoders": []},
        "model": {"type": "BPE", "byte_fallback": true, "vocab": vocab, "merges": [
            ["\u{2581}", "a"], ["a", "b"], ["\u{2581}a", "b"], ["\u{2581}", "ab"], ["\u{2581}", "\u{2581}"]]},
    })
}

fn write(dir: &Path) {
    Shape::default().write(dir);
    fs::remove_file(dir.join("tokenizer.model")).unwrap();
    fs::write(dir.join("tokenizer.json"), tokenizer_json().to_string()).unwrap();
    let settings = json!({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"});
    fs::write(dir.join("tokenizer_config.json"), settings.to_string()).unwrap();
}

fn converted(change: impl FnOnce(&mut Json)) -> (Gguf, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    edit(&dir.path().join("tokenizer.json"), change);
    let notes = Checkpoint::open(dir.path()).unwrap().notes;
    convert_to(dir.path(), &dir.path().join("x.gguf"), Ftype::Q8_0).unwrap();
    (Gguf::open(&dir.path().join("x.gguf")).unwrap(), notes)
}

#[test]
fn scores_follow_the_order_of_merges_and_rows_are_filled_up() {
    let (gguf, notes) = converted(|_| ());
    assert!(notes.iter().all(|note| !note.contains("merges")), "{notes:?}");
    let get = |key: &str| gguf.get(&format!("tokenizer.ggml.{key}"));
    let (Some(Value::Array(Array::Str(tokens))), Some(Value::Array(Array::F32(scores)))) =
        (get("tokens"), get("scores"))
    else {
        panic!("no vocabulary");
    };
    assert_eq!(tokens[259..266], PIECES);
    assert_eq!(scores[259..266], [0.0, 0.0, 0.0, -0.0, -1.0, -2.0, -3.0]);
    assert_eq!((tokens[266].as_str(), scores[266]), ("[PAD266]", -10_000.0));
    assert_eq!(tokens.len(), 300);
    let kinds = [vec![3; 3], vec![6; 256], vec![1; 7], vec![5; 34]].concat();
    assert_eq!(get("token_type"), Some(&Value::Array(Array::I32(kinds))));
    assert_eq!((gguf.str("tokenizer.ggml.model"), gguf.str("tokenizer.ggml.pre")), (Some("llama"), Some("default")));
    assert_eq!(gguf.u32("tokenizer.ggml.unknown_token_id"), Some(0));
    assert_eq!(get("add_bos_token"), Some(&Value::Bool(true)));
    assert_eq!(gguf.str("tulu_quant.tokenizer.prefix_space"), Some("first"));
}

#[test]
fn transformers_4_puts_a_space_before_every_text() {
    let (gguf, _) = converted(|json| {
        json["pre_tokenizer"] = Json::Null;
        json["normalizer"] = json!({"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "\u{2581}"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"}]});
    });
    assert_eq!(gguf.str("tulu_quant.tokenizer.prefix_space"), None);
}

#[test]
fn merges_that_a_gguf_cannot_store_are_noted() {
    let (_, notes) = converted(|json| drop(json["model"]["merges"].as_array_mut().unwrap().remove(3)));
    assert!(notes.iter().any(|note| note.contains("lacks 1 merges")), "{notes:?}");
}

#[test]
fn other_normalizers_and_missing_bytes_are_refused() {
    for (change, expected) in [
        ((|json| json["normalizer"] = json!({"type": "NFKC"})) as fn(&mut Json), "normalizer NFKC"),
        (|json| json["pre_tokenizer"]["split"] = true.into(), "splits words"),
        (|json| json["pre_tokenizer"] = json!({"type": "Digits"}), "pre-tokenizer Digits"),
        (|json| json["pre_tokenizer"] = Json::Null, "does not replace spaces"),
        (|json| drop(json["model"]["vocab"].as_object_mut().unwrap().remove("<0x41>")), "255 of the 256 byte tokens"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path());
        edit(&dir.path().join("tokenizer.json"), change);
        let err = Checkpoint::open(dir.path()).unwrap_err();
        assert_eq!(err.code, Code::Tokenizer, "{err}");
        assert!(err.what.contains(expected), "{err}");
    }
}
