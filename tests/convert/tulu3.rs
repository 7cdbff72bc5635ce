//! A trained checkpoint in the layout of Llama-3.1-Tulu-3-8B (`tests/fixtures/tulu3-tiny`), from the folder to an answer.

use crate::support::{assert_success, run, tulu_quant};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tulu3-tiny")
}

/// Converts the fixture to `types`; extra arguments follow.
fn converted(dir: &Path, types: &str, args: &[&str]) {
    let output = run(tulu_quant().arg("convert").arg(fixture()).args(["-q", types, "-o"]).arg(dir).args(args), b"");
    assert_success(&output);
}

fn answer(model: &Path) -> String {
    let question = "What is the capital of France?";
    let output = run(tulu_quant().arg("chat").arg(model).args(["-p", question, "--temp", "0", "-c", "256"]), b"");
    assert_success(&output);
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn trained_llama_3_checkpoint_answers_in_every_type() {
    let dir = tempfile::tempdir().unwrap();
    converted(dir.path(), "BF16,Q8_0,Q6_K,Q5_K_M", &[]);
    for kind in ["BF16", "Q8_0", "Q6_K", "Q5_K_M"] {
        let model = dir.path().join(format!("tulu3-tiny-{kind}.gguf"));
        assert_eq!(answer(&model), "The capital of France is Paris.", "{kind}");
        let verified = run(tulu_quant().arg("verify").arg(&model).arg("--against").arg(fixture()), b"");
        assert_success(&verified);
    }
}

#[test]
fn parts_of_a_split_file_are_converted_again_and_answer() {
    let dir = tempfile::tempdir().unwrap();
    converted(dir.path(), "BF16", &["--split-max-size", "1M"]);
    let names = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let part = names.into_iter().find(|path| path.to_string_lossy().contains("-BF16-00002-of-0000")).unwrap();
    let output = run(tulu_quant().arg("convert").arg(&part).args(["-q", "Q8_0", "-o"]).arg(dir.path()), b"");
    assert_success(&output);
    assert_eq!(answer(&dir.path().join("tulu3-tiny-Q8_0.gguf")), "The capital of France is Paris.");
}

#[test]
fn prompts_of_the_fixture_equal_transformers() {
    let dir = tempfile::tempdir().unwrap();
    converted(dir.path(), "Q8_0", &[]);
    let golden = std::fs::read(fixture().join("make/ids.json")).unwrap();
    let golden: Vec<Value> = serde_json::from_slice(&golden).unwrap();
    let input: String = golden.iter().map(|case| format!("{}\n", case["messages"])).collect();
    let model = dir.path().join("tulu3-tiny-Q8_0.gguf");
    let output = run(tulu_quant().arg("prompt").arg(model).args(["-i", "-", "--json"]), input.as_bytes());
    assert_success(&output);
    let lines = String::from_utf8(output.stdout).unwrap();
    assert_eq!(lines.lines().count(), golden.len());
    for (line, case) in lines.lines().zip(&golden) {
        let got: Value = serde_json::from_str(line).unwrap();
        assert_eq!(got["text"], case["text"]);
        // the golden file has no BOS, which is 496
        let ids = got["ids"].as_array().unwrap();
        let ids = ids.strip_prefix(&[Value::from(496)]).unwrap_or(ids);
        assert_eq!(ids, case["ids"].as_array().unwrap(), "{}", case["text"]);
    }
}
