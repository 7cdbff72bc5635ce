//! Checkpoints with a byte-level tokenizer.json and no tokenizer.model, as Llama 3 and Tulu 3 have them.

use crate::fixtures::bpe::{self, BOS, EOS, added};
use crate::support::{convert_to, edit};
use serde_json::{Value as Json, json};
use std::path::Path;
use tulu_quantize::gguf::{Array, Gguf, Value};
use tulu_quantize::{Checkpoint, Code, Ftype};

/// Converts the checkpoint after `change` was applied to its tokenizer.json; returns the file and the notes.
fn converted(change: impl FnOnce(&mut Json)) -> (Gguf, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    bpe::write(dir.path());
    edit(&dir.path().join("tokenizer.json"), change);
    open(dir.path())
}

fn open(dir: &Path) -> (Gguf, Vec<String>) {
    let notes = Checkpoint::open(dir).unwrap().notes;
    let out = dir.join("out.gguf");
    convert_to(dir, &out, Ftype::Q8_0).unwrap();
    (Gguf::open(&out).unwrap(), notes)
}

/// The error of a checkpoint whose files were changed.
fn refused(file: &str, change: impl FnOnce(&mut Json)) -> String {
    let dir = tempfile::tempdir().unwrap();
    bpe::write(dir.path());
    edit(&dir.path().join(file), change);
    let err = Checkpoint::open(dir.path()).unwrap_err();
    assert!(matches!(err.code, Code::Tokenizer | Code::Json), "{err}");
    assert_eq!(err.file.file_name().unwrap(), "tokenizer.json", "{err}");
    err.what
}

fn texts<'a>(gguf: &'a Gguf, key: &str) -> &'a [String] {
    match gguf.get(&format!("tokenizer.ggml.{key}")) {
        Some(Value::Array(Array::Str(texts))) => texts,
        other => panic!("{key}: {other:?}"),
    }
}

fn kinds(gguf: &Gguf) -> &[i32] {
    match gguf.get("tokenizer.ggml.token_type") {
        Some(Value::Array(Array::I32(kinds))) => kinds,
        other => panic!("{other:?}"),
    }
}

fn flag(gguf: &Gguf, key: &str) -> Option<bool> {
    match gguf.get(&format!("tokenizer.ggml.{key}")) {
        None => None,
        Some(Value::Bool(flag)) => Some(*flag),
        other => panic!("{key}: {other:?}"),
    }
}

#[test]
fn vocabulary_has_the_keys_of_the_converter() {
    let (gguf, notes) = converted(|_| ());
    assert_eq!(notes, Vec::<String>::new());
    let text = |key: &str| gguf.str(&format!("tokenizer.ggml.{key}"));
    assert_eq!((text("model"), text("pre")), (Some("gpt2"), Some("llama-bpe")));
    let tokens = texts(&gguf, "tokens");
    let alphabet: Vec<String> = bpe::alphabet().iter().map(char::to_string).collect();
    assert_eq!(tokens[..256], alphabet);
    assert_eq!(tokens[256..261], ["he", "ll", "hell", "<|begin_of_text|>", "<|end_of_text|>"]);
    assert_eq!(tokens[261..], (261..300).map(|id| format!("[PAD{id}]")).collect::<Vec<_>>());
    assert_eq!(kinds(&gguf), [vec![1; 259], vec![3; 2], vec![5; 39]].concat());
    assert_eq!(texts(&gguf, "merges"), ["h e", "l l", "he ll"]);
    assert_eq!(gguf.get("tokenizer.ggml.scores"), None);
    assert_eq!(gguf.u32("tokenizer.ggml.bos_token_id"), Some(BOS as u32));
    assert_eq!(gguf.u32("tokenizer.ggml.eos_token_id"), Some(EOS as u32));
    assert_eq!((flag(&gguf, "add_bos_token"), flag(&gguf, "add_eos_token")), (Some(true), Some(false)));
}

#[test]
fn merges_are_read_as_text_and_as_pairs() {
    let (gguf, _) = converted(|json| json["model"]["merges"] = json!([["h", "e"], ["l", "l"], ["he", "ll"]]));
    assert_eq!(texts(&gguf, "merges"), ["h e", "l l", "he ll"]);
    let what = refused("tokenizer.json", |json| json["model"]["merges"] = json!(["h e", "h  e"]));
    assert!(what.contains("merge 'h  e' does not name two tokens"), "{what}");
    let what = refused("tokenizer.json", |json| json["model"]["merges"] = json!([["h", "q"]]));
    assert!(what.contains("merge 0 joins 'h' and 'q'"), "{what}");
}

#[test]
fn added_tokens_are_control_or_user_defined() {
    let (gguf, notes) = converted(|json| {
        let more = [("<|looks|>", false), ("<tool>", false), ("\u{2581}low line", false), ("<pad>", false)];
        let list = json["added_tokens"].as_array_mut().unwrap();
        list.extend((261..).zip(more).map(|(id, (text, special))| added(id, text, special)));
        list.push(json!({"id": 265, "content": "<s>", "special": true, "lstrip": true}));
    });
    assert_eq!(texts(&gguf, "tokens")[261..266], ["<|looks|>", "<tool>", " low line", "<pad>", "<s>"]);
    assert_eq!(kinds(&gguf)[261..267], [3, 4, 4, 3, 3, 5]);
    assert!(notes.iter().any(|note| note.contains("'<s>'") && note.contains("lstrip")), "{notes:?}");
}

#[test]
fn an_added_token_past_the_embedding_is_left_out_with_a_note() {
    let (gguf, notes) = converted(|json| {
        let list = json["added_tokens"].as_array_mut().unwrap();
        list.extend((261..302).map(|id| added(id, &format!("<|t{id}|>"), true)));
    });
    assert_eq!(texts(&gguf, "tokens").last().unwrap(), "<|t299|>");
    assert!(notes.iter().any(|note| note.contains("'<|t300|>' (300) and 1 more")), "{notes:?}");
}

#[test]
fn a_tokenizer_without_bos_is_still_llama_bpe() {
    let (gguf, _) = converted(|json| {
        json["post_processor"] = json["post_processor"]["processors"][0].take();
    });
    assert_eq!(gguf.str("tokenizer.ggml.pre"), Some("llama-bpe"));
    assert_eq!(flag(&gguf, "add_bos_token"), Some(false));
    // llama.cpp adds bos for llama-bpe where no key says otherwise
    let (gguf, _) = converted(|json| json["post_processor"] = Json::Null);
    assert_eq!(flag(&gguf, "add_bos_token"), Some(false));
}

#[test]
fn ignore_merges_decides_where_it_changes_ids() {
    let pre = |change: fn(&mut Json)| {
        let (gguf, notes) = converted(change);
        (gguf.str("tokenizer.ggml.pre").unwrap().to_owned(), notes.len())
    };
    // every token is made by merges, so the flag changes nothing
    assert_eq!(pre(|json| json["model"]["ignore_merges"] = false.into()), ("llama-bpe".to_owned(), 0));
    // 'hell' is no longer made: with the flag off it is never used
    fn without(json: &mut Json, flag: Json) {
        json["model"]["merges"] = json!(["h e", "l l"]);
        json["model"]["ignore_merges"] = flag;
    }
    assert_eq!(pre(|json| without(json, true.into())), ("llama-bpe".to_owned(), 0));
    assert_eq!(pre(|json| without(json, false.into())), ("smaug-bpe".to_owned(), 0));
    // the key is missing in files of Llama 3.0
    assert_eq!(pre(|json| without(json, Json::Null)), ("llama-bpe".to_owned(), 1));
}

#[test]
fn unknown_tokenizers_are_refused_with_what_was_found() {
    for (change, expected) in [
        (
            (|json| json["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "[a-z]+".into()) as fn(&mut Json),
            "'[a-z]+'",
        ),
        (|json| json["pre_tokenizer"] = Json::Null, "pre-tokenizer none"),
        (|json| json["normalizer"] = json!({"type": "NFC"}), "normalizer NFC"),
        (|json| json["model"]["type"] = "Unigram".into(), "type Unigram"),
        (|json| json["model"]["end_of_word_suffix"] = "</w>".into(), "end_of_word_suffix '</w>'"),
        (|json| json["model"]["dropout"] = 0.1.into(), "dropout"),
        (|json| json["model"]["vocab"]["he"] = 0.into(), "the id 0 for two tokens"),
        (|json| json["model"]["vocab"] = json!([["a", 0.0]]), "0 tokens"),
        (|json| drop(json.as_object_mut().unwrap().remove("model")), "no BPE model"),
        (
            |json| json["added_tokens"][0]["id"] = 270.into(),
            "'<|begin_of_text|>' at 270, but a tokenizer gives it the id 259",
        ),
        (|json| json["added_tokens"][0]["content"] = "a\0b".into(), "NUL"),
    ] {
        let what = refused("tokenizer.json", change);
        assert!(what.contains(expected), "{what}");
    }
}

#[test]
fn eos_comes_from_names_then_lists_then_usual_texts() {
    // a byte-level GGUF without eos would end answers at a comma
    let with = |config: Json, settings: Json| {
        let dir = tempfile::tempdir().unwrap();
        bpe::write(dir.path());
        edit(&dir.path().join("tokenizer.json"), |json| {
            let list = json["added_tokens"].as_array_mut().unwrap();
            list.extend([added(261, "<|eom_id|>", true), added(262, "<|eot_id|>", true)]);
        });
        edit(&dir.path().join("config.json"), |json| json["eos_token_id"] = config);
        edit(&dir.path().join("tokenizer_config.json"), |json| json["eos_token"] = settings);
        let (gguf, notes) = open(dir.path());
        let id = |key: &str| gguf.u32(&format!("tokenizer.ggml.{key}_token_id"));
        (id("eos"), id("eot"), id("eom"), notes.len())
    };
    assert_eq!(with(EOS.into(), "<|end_of_text|>".into()), (Some(260), None, None, 0));
    assert_eq!(with(json!([260, 261, 262]), Json::Null), (Some(260), Some(262), Some(261), 2));
    assert_eq!(with(json!([260, 261, 262]), "<|eot_id|>".into()), (Some(262), Some(260), Some(261), 1));
    // ids of Llama 2
    assert_eq!(with(2.into(), Json::Null), (Some(260), None, None, 2));
    assert_eq!(with(Json::Null, Json::Null), (Some(260), None, None, 1));
}

#[test]
fn a_scaled_rotary_embedding_becomes_a_tensor() {
    let (gguf, _) = converted(|_| ());
    let first = &gguf.tensors[0];
    assert_eq!(
        (first.name.as_str(), first.dims.as_slice(), first.ggml_type.name()),
        ("rope_freqs.weight", &[32][..], "f32")
    );
    assert!(!gguf.pairs.iter().any(|(key, _)| key.starts_with("llama.rope.scaling.")));
}
