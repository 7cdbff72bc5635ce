//! Reports about tokens: vocabularies, special tokens, ends of answers, and the metadata about them.

use super::folders::{converted, edit, golden, plan, prompt, resize, weights, write};
use crate::support::checkpoint::{copy, inspect};
use crate::support::{run, tulu_quant};
use serde_json::{Value, json};
use std::fs;

/// F5, F6, F8, F9, F13 of named templates, F15: text, ids and eos are those of Transformers.
#[test]
fn tokenizer_folders_give_the_prompts_of_transformers() {
    let (cases, golden) = (golden("cases.json"), golden("transformers.json"));
    for (name, case) in cases["cases"].as_object().unwrap() {
        let (_dir, source, _) = copy();
        let model = source.join("tokenizer.model");
        let append = case["append"].as_str().unwrap_or_default();
        let byte = |i: usize| u8::from_str_radix(&append[i..i + 2], 16).unwrap();
        let bytes: Vec<u8> = (0..append.len()).step_by(2).map(byte).collect();
        fs::write(&model, [fs::read(&model).unwrap(), bytes].concat()).unwrap();
        for (file, change) in case["edit"].as_object().unwrap() {
            edit(&source, file, change);
        }
        for (file, text) in case["write"].as_object().unwrap() {
            fs::create_dir_all(source.join(file).parent().unwrap()).unwrap();
            fs::write(source.join(file), text.as_str().unwrap()).unwrap();
        }
        if case["rows"] != 1536 {
            resize(&source, case["rows"].as_u64().unwrap());
        }
        let made = converted(&source);
        let expected = &golden["4.57.1"][name];
        let (text, ids) = prompt(&made, &cases["messages"]);
        assert_eq!(text, expected["text"], "{name}");
        assert_eq!(json!(ids), expected["ids"], "{name}");
        assert_eq!(inspect(&made)["metadata"]["tokenizer.ggml.eos_token_id"], expected["eos"], "{name}");
    }
}

/// Named templates are written under the keys of llama.cpp's converter.
#[test]
fn named_templates_are_kept() {
    let (_dir, source, _) = copy();
    let list = json!([{"name": "tool use", "template": "T"}, {"name": "rag", "template": "R"}]);
    edit(&source, "tokenizer_config.json", &json!({"chat_template": list}));
    let output = plan(&source);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("note: there are chat templates named rag, tool_use, but none named default"), "{said}");
    let metadata = &inspect(&converted(&source))["metadata"];
    assert_eq!(metadata["tokenizer.chat_templates"], json!(["rag", "tool_use"]));
    assert_eq!(metadata["tokenizer.chat_template.tool_use"], "T");
    assert_eq!(metadata.get("tokenizer.chat_template"), None);
}

/// F7: every id of the list ends an answer. The keys of llama.cpp are used first.
#[test]
fn every_end_of_answer_token_is_written() {
    for (rows, config, generation, expected) in [
        (1537, json!([2, 1536]), json!([2, 1536]), json!([1536, null, null])),
        (1538, json!(2), json!([2, 1536, 1537]), json!([1536, 1537, null])),
        (1540, json!(2), json!([1539, 1538, 1537, 1536, 9999]), json!([1539, 1538, "1537,1536"])),
        // a single number that is another special token is ignored: this one is <s>
        (1537, json!(2), json!(1), json!([null, null, null])),
        (1537, json!(2), json!(1536), json!([1536, null, null])),
    ] {
        let (_dir, source, _) = copy();
        let added: serde_json::Map<String, Value> = (1536..rows)
            .map(|id| (id.to_string(), json!({"content": format!("[END{id}]"), "special": true})))
            .collect();
        edit(&source, "tokenizer_config.json", &json!({"added_tokens_decoder": added}));
        edit(&source, "config.json", &json!({"eos_token_id": config}));
        edit(&source, "generation_config.json", &json!({"eos_token_id": generation}));
        resize(&source, rows);
        let metadata = &inspect(&converted(&source))["metadata"];
        assert_eq!(metadata["tokenizer.ggml.eos_token_id"], 2, "{generation}");
        let keys = ["tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id", "tulu_quant.tokenizer.end_token_ids"];
        let found = keys.map(|key| metadata.get(key).cloned().unwrap_or_default());
        assert_eq!(json!(found), expected, "{generation}");
    }
}

/// F7: with the rows of two tokens of the output matrix exchanged, the model ends its answers with the other one.
#[test]
fn answer_ends_at_a_listed_token() {
    const PER_ROW: usize = 256 * 2;
    // five end tokens: llama.cpp's keys have no place for the last one
    let rows = 1540;
    let (_dir, source, _) = copy();
    let added: serde_json::Map<String, Value> =
        (1536..rows).map(|id| (id.to_string(), json!({"content": format!("[END{id}]"), "special": true}))).collect();
    edit(&source, "tokenizer_config.json", &json!({"added_tokens_decoder": added}));
    edit(&source, "generation_config.json", &json!({"eos_token_id": [2, 1536, 1537, 1538, 1539]}));
    edit(&source, "config.json", &json!({"vocab_size": rows}));
    weights(&source, |tensors| {
        for t in tensors.iter_mut().filter(|t| t.shape == [1536, 256]) {
            t.shape[0] = rows;
            t.bytes.resize(rows as usize * PER_ROW, 0);
            if t.name == "lm_head.weight" {
                t.bytes.copy_within(2 * PER_ROW..3 * PER_ROW, 1539 * PER_ROW);
                t.bytes[2 * PER_ROW..3 * PER_ROW].fill(0);
            }
        }
    });
    let made = converted(&source);
    let mut chat = tulu_quant();
    chat.arg("chat").arg(made).args(["-p", "What is the capital of France?", "--temp", "0", "-n", "40"]);
    let output = run(&mut chat, b"");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "The capital of France is Paris.", "{output:?}");
}

/// F16: added tokens that repeat special tokens cannot be written by content.
#[test]
fn content_never_becomes_a_listed_special_token() {
    let messages = json!([{"role": "user", "content": "Say <s> and </s> and <unk>"}]);
    let (_dir, base, _) = copy();
    let expected = prompt(&converted(&base), &messages);
    for (name, change) in [
        ("added_tokens.json", json!({"</s>": 2, "<s>": 1, "<unk>": 0})),
        ("tokenizer_config.json", json!({"added_tokens_decoder": {"1": {"content": "<s>", "special": false}}})),
    ] {
        let (_dir, source, _) = copy();
        edit(&source, name, &change);
        assert_eq!(prompt(&converted(&source), &messages), expected, "{name}");
    }
}

/// D12: text of a file is printed on one line, and nothing in it acts on the terminal.
#[test]
fn tokens_and_names_are_escaped() {
    let (_dir, source, _) = copy();
    write(&source, "added_tokens.json", "{\"\\u001b]0;pwned\\u0007\\nnote: all is well\": 99999}");
    for verb in ["convert", "inspect"] {
        let mut command = tulu_quant();
        command.arg(verb).arg(&source);
        if verb == "convert" {
            command.arg("--dry-run");
        }
        let output = run(&mut command, b"");
        let text = String::from_utf8_lossy(&[output.stderr, output.stdout].concat()).into_owned();
        assert!(text.contains("added_tokens.json: '\\u{1b}]0;pwned\\u{7}\\nnote: all is well' has id 99999"), "{text}");
        assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'), "{text:?}");
    }
}

/// D14: the keys and values that llama.cpp's converter writes about the card, sampling and the tokenizer.
#[test]
fn metadata_equals_llama_cpps_converter() {
    let golden = golden("converter.json");
    for (name, case) in golden["cases"].as_object().unwrap() {
        let (_dir, source, _) = copy();
        for (file, text) in case["write"].as_object().unwrap() {
            write(&source, file, text.as_str().unwrap());
        }
        for (file, change) in case["edit"].as_object().unwrap() {
            edit(&source, file, change);
        }
        let metadata = &inspect(&converted(&source))["metadata"];
        for (key, value) in case["keys"].as_object().unwrap() {
            assert_eq!(metadata.get(key), Some(value), "{name}: {key}");
        }
        let described = ["general.", "tokenizer.ggml.add_", "tokenizer.chat_template"];
        let of_vocabulary = |key: &str| key.starts_with("tokenizer.ggml.") && key.ends_with("_token_id");
        // keys that every file has
        let usual = ["architecture", "type", "name", "size_label", "file_type", "quantization_version"];
        for key in metadata.as_object().unwrap().keys() {
            let is_usual = usual.iter().any(|end| *key == format!("general.{end}"));
            let belongs = described.iter().any(|begin| key.starts_with(begin)) || of_vocabulary(key);
            assert!(is_usual || !belongs || case["keys"].get(key).is_some(), "{name}: {key} is not the converter's");
        }
    }
}
