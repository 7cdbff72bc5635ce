//! Prompts of Tulu 3: text and ids of Transformers (`../shared/data/llama3`).

use crate::support::bpe::{TULU_3, llama3};
use crate::support::{assert_success, run, shared, tulu_quant};
use serde_json::{Value, json};
use std::path::Path;

/// The output of `prompt --json` for several conversations.
fn prompts(vocab: &Path, conversations: &[Value], flags: &[&str]) -> Vec<Value> {
    let input: String = conversations.iter().map(|c| format!("{c}\n")).collect();
    let output = run(tulu_quant().arg("prompt").arg(vocab).args(["-i", "-", "--json"]).args(flags), input.as_bytes());
    assert_success(&output);
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
#[ignore = "needs ../shared"]
fn shared_text_and_ids_of_tulu_3_equal_transformers() {
    let golden: Value =
        serde_json::from_slice(&std::fs::read(shared("data/llama3/tulu3-prompts.json")).unwrap()).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 48);
    let dir = tempfile::tempdir().unwrap();
    let vocab = dir.path().join("vocabulary.gguf");
    llama3(TULU_3).write(&vocab);
    for (add, flags) in [(true, &[][..]), (false, &["--no-generation-prompt"])] {
        let cases: Vec<&Value> = cases.iter().filter(|case| case["add_generation_prompt"] == add).collect();
        let conversations: Vec<Value> = cases.iter().map(|case| case["messages"].clone()).collect();
        for (got, case) in prompts(&vocab, &conversations, flags).iter().zip(&cases) {
            assert_eq!(got["text"], case["text"]);
            assert_eq!(got["ids"], case["ids"], "{}", case["text"]);
        }
        println!("{} cases", cases.len());
    }
}

/// Strings with all scripts, digits and blanks: the ids of Transformers, tiktoken and llama.cpp.
#[test]
#[ignore = "needs ../shared"]
fn shared_strings_equal_transformers() {
    let golden: Value = serde_json::from_slice(&std::fs::read(shared("data/llama3/strings.json")).unwrap()).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 400);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vocabulary.gguf");
    llama3("{{ messages[0].content }}").write(&path);
    let alone = |case: &Value| json!([{"role": "user", "content": case["text"]}]);
    for (got, case) in prompts(&path, &cases.iter().map(alone).collect::<Vec<_>>(), &[]).iter().zip(cases) {
        assert_eq!(got["ids"].as_array().unwrap()[1..], *case["ids"].as_array().unwrap(), "{}", case["text"]);
    }
}
