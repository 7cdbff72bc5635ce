//! GGUF files with a byte-level BPE vocabulary run in every subcommand; those that llama.cpp would misread are refused.

use crate::support::batch::chat;
use crate::support::bpe::{CONTROLS, small};
use crate::support::{assert_error, assert_success, run, tulu_quant};
use serde_json::{Value as Json, json};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tulu_quantize::gguf::{Array, Value};

/// Writes the small model to a new folder.
fn model() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("small-Q8_0.gguf");
    small().write(&path);
    (dir, path)
}

/// The ids of a conversation with one message.
fn ids(model: &Path, content: &str) -> Json {
    ids_with(model, content, &[])
}

fn ids_with(model: &Path, content: &str, flags: &[&str]) -> Json {
    let input = json!([{"role": "user", "content": content}]).to_string();
    let output = run(tulu_quant().arg("prompt").arg(model).args(["-i", "-", "--json"]).args(flags), input.as_bytes());
    assert_success(&output);
    serde_json::from_slice::<Json>(&output.stdout).unwrap()["ids"].take()
}

#[test]
fn every_subcommand_runs_it() {
    let (dir, model) = model();
    for args in [&["inspect"][..], &["verify"], &["bench", "-p", "8", "-n", "2", "-r", "1"]] {
        assert_success(&run(tulu_quant().args(args).arg(&model), b""));
    }
    let answer = run(tulu_quant().arg("chat").arg(&model).args(["-p", "Hi", "-n", "4", "--temp", "0", "--json"]), b"");
    assert_success(&answer);
    let answer: Json = serde_json::from_slice(&answer.stdout).unwrap();
    assert_eq!(answer["usage"]["prompt_tokens"], ids(&model, "Hi").as_array().unwrap().len());
    let (input, out) = (dir.path().join("in.jsonl"), dir.path().join("out.jsonl"));
    std::fs::write(&input, chat("1", "Hi", &json!({"max_tokens": 4, "logprobs": true, "top_logprobs": 2}))).unwrap();
    assert_success(&run(tulu_quant().arg("batch").arg(&model).arg("-i").arg(&input).arg("-o").arg(&out), b""));
    let record: Json = serde_json::from_slice(&std::fs::read(&out).unwrap()).unwrap();
    assert_eq!(record["response"]["body"]["choices"][0]["message"]["content"], answer["text"]);
}

#[test]
fn content_is_split_as_a_whole_and_forges_no_token() {
    let (_dir, model) = model();
    let bytes = |text: &str| text.bytes().map(u32::from).collect::<Vec<_>>();
    // `>` and a newline are one token, also at the border of header and content
    let header = |name: &str| [bytes(&format!("<|{name}|")), vec![256]].concat();
    let wrapped =
        |content: Vec<u32>| json!([vec![CONTROLS[0]], header("user"), content, vec![10], header("assistant")].concat());
    assert_eq!(ids(&model, "Hi Hi"), wrapped(vec![257, 258]));
    for name in ["<|end_of_text|>", "<|eot_id|>", "<|begin_of_text|>"] {
        assert_eq!(ids(&model, &format!("a{name}b")), wrapped(bytes(&format!("a{name}b"))));
    }
}

#[test]
fn a_vocabulary_that_llama_cpp_would_misread_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("broken.gguf");
    let input = json!([{"role": "user", "content": "Hi"}]).to_string();
    let prompt = || run(tulu_quant().arg("prompt").arg(&path).args(["-i", "-"]), input.as_bytes());
    for (key, value, words) in [
        ("merges", None, "tokenizer.ggml.merges is missing"),
        ("model", Some(Value::Str("bert".to_owned())), "tokenizer.ggml.model is bert, not llama"),
        ("pre", Some(Value::Str("nonesuch".to_owned())), "unknown pre-tokenizer type: 'nonesuch'"),
        ("token_type", Some(Value::Array(Array::I32(vec![1]))), "token_type does not have one entry"),
        ("bos_token_id", Some(Value::U32(1536)), "bos_token_id is 1536, not one of the 1536 tokens"),
    ] {
        let mut file = small();
        let key = format!("tokenizer.ggml.{key}");
        file.pairs.retain(|(name, _)| *name != key);
        if let Some(value) = value {
            file.put(&key, value);
        }
        file.write(&path);
        assert_error(&prompt(), 2, "MODEL", &[words]);
    }
    // without a pre-tokenizer, the file runs with a note
    let mut old = small();
    old.pairs.retain(|(name, _)| name != "tokenizer.ggml.pre");
    old.write(&path);
    let output = prompt();
    assert_success(&output);
    assert!(String::from_utf8_lossy(&output.stderr).contains("tokenizer.ggml.pre is missing"), "{output:?}");
}

/// Without EOS, llama.cpp ends answers at the token 11. Another end token is used, if the vocabulary has one.
#[test]
fn a_file_without_eos_ends_answers_at_a_known_token() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("no-eos.gguf");
    let mut file = small();
    file.pairs.retain(|(name, _)| name != "tokenizer.ggml.eos_token_id" && name != "tokenizer.chat_template");
    file.put("tokenizer.chat_template", Value::Str("{{ messages[0].content }}{{ eos_token }}".to_owned()));
    file.write(&path);
    assert_eq!(ids(&path, "a"), json!([CONTROLS[0], 97, CONTROLS[2]]));
    let Some((_, Value::Array(Array::Str(tokens)))) =
        file.pairs.iter_mut().find(|(name, _)| name == "tokenizer.ggml.tokens")
    else {
        panic!("the file has no tokens")
    };
    for id in [1001, 1002] {
        tokens[id] = format!("<|x{id}|>");
    }
    file.write(&path);
    let output = run(tulu_quant().arg("chat").arg(&path).args(["-p", "a"]), b"");
    assert_error(&output, 2, "MODEL", &["tokenizer.ggml.eos_token_id is missing, and no token such as <|eot_id|>"]);
}

/// `--bos` decides, whatever the file says; a template that writes BOS keeps it.
#[test]
fn bos_is_added_as_asked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("small.gguf");
    for (add, template, expected) in [
        (true, "a", [true, true, false]),
        (false, "a", [false, true, false]),
        (true, "{{ bos_token }}a", [true, true, true]),
    ] {
        let mut file = small();
        file.put("tokenizer.ggml.add_bos_token", Value::Bool(add));
        file.put("tokenizer.chat_template", Value::Str(format!("{template}{{{{ messages[0].content }}}}")));
        file.write(&path);
        for (bos, begins) in ["auto", "on", "off"].into_iter().zip(expected) {
            let first = if begins { vec![CONTROLS[0]] } else { Vec::new() };
            let expected = [first, vec![97, 98]].concat();
            assert_eq!(ids_with(&path, "b", &["--bos", bos]), json!(expected), "{add} {template} {bos}");
        }
    }
    let mut none = small();
    none.pairs.retain(|(name, _)| name != "tokenizer.ggml.bos_token_id");
    none.write(&path);
    assert_eq!(ids(&path, "b").as_array().unwrap()[0], 60, "the file names no BOS");
    let output = run(tulu_quant().arg("chat").arg(&path).args(["-p", "a", "--bos", "on"]), b"");
    assert_error(&output, 2, "USAGE", &["--bos on needs a BOS token"]);
}

/// A model of another family runs with its own template and a note, and Tulu's tags in its answers are text.
#[test]
fn another_template_is_used_with_a_note() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("other.gguf");
    let mut file = small();
    let template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ eos_token }}{% endfor %}[assistant]";
    file.put("tokenizer.chat_template", Value::Str(template.to_owned()));
    file.write(&path);
    let output = run(tulu_quant().arg("chat").arg(&path).args(["-p", "a", "-n", "1"]), b"");
    assert_success(&output);
    let note = "note: the model's own chat template is used, which is not one of the Tulu family";
    assert_eq!(String::from_utf8_lossy(&output.stderr).matches(note).count(), 1, "{output:?}");
    small().write(&path);
    let output =
        run(tulu_quant().arg("chat").arg(&path).args(["-p", "a", "-n", "1", "--system", "tulu3", "--json"]), b"");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("template"), "{output:?}");
    let with: Json = serde_json::from_slice(&output.stdout).unwrap();
    let header =
        "<|system|>\nYou are Tulu 3, a helpful and harmless AI Assistant built by the Allen Institute for AI.\n";
    // `>` and a newline are one token
    let added = header.len() as u64 - 1;
    let alone = ids(&path, "a").as_array().unwrap().len() as u64;
    assert_eq!(with["usage"]["prompt_tokens"], alone + added);
}
