//! Copy-heavy records: rewriting, extraction and edits of code. The demonstration model cannot do this by itself, so a
//! grammar dictates the answers; most of their tokens are in the prompts.

use crate::support::batch::{Job, chat};
use crate::support::{assert_success, demo_f32, demo_model, run, tulu_quant};
use serde_json::{Value, json};
use std::path::Path;

/// Fifty questions with their answers.
fn questions() -> Vec<(String, String)> {
    let towns = ["Paris", "Rome", "Berlin", "Madrid", "Lisbon", "Athens", "Vienna", "Oslo", "Dublin", "Prague"];
    let names = ["Luna", "Max", "Oscar", "Ruby", "Bella"];
    let functions = ["sum", "count", "total", "first", "last"];
    let rewrite = |i: usize| {
        let (town, name) = (towns[i % 10], names[i % 5]);
        let text = format!(
            "Once upon a time there was a kind cat called {name}. {name} lived in {town}. One day {name} had a lot of honey. \
             A bird came by and was hungry. {name} thought for a moment and shared the honey. The end."
        );
        (format!("Rewrite this text, and write dog instead of cat: {text}"), text.replace("cat", "dog"))
    };
    let extract = |i: usize| {
        let (town, name, apples) = (towns[i % 10], names[i % 5], i + 3);
        let text = format!(
            "My name is {name}. I am from {town}. I have {apples} apples and I eat {i}. The capital of Japan is Tokyo. A bee \
             has 6 legs."
        );
        let found = format!("I have {apples} apples and I eat {i}. A bee has 6 legs.");
        (format!("Copy the sentences about apples and bees: {text}"), found)
    };
    let edit = |i: usize| {
        let name = functions[i % 5];
        let code = format!(
            "def {name}(items):\n    result = {i}\n    for item in items:\n        result = result + item\n    return \
             result\n"
        );
        (format!("Write minus instead of plus:\n{code}"), code.replace('+', "-"))
    };
    (0..20).map(rewrite).chain((0..15).map(extract)).chain((0..15).map(edit)).collect()
}

fn records(extra: &Value) -> Vec<Vec<u8>> {
    let record = |(i, (question, answer)): (usize, (String, String))| {
        let mut body = json!({"grammar": format!("root ::= {}", json!(answer)), "max_tokens": 300});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        chat(&format!("c{i}"), &question, &body)
    };
    questions().into_iter().enumerate().map(record).collect()
}

/// The choices of all records, and the summary.
fn answers(model: &Path, lines: &[Vec<u8>], flags: &[&str]) -> (Vec<Value>, Value) {
    let job = Job::new(lines);
    let mut command = tulu_quant();
    command.arg("batch").arg(model).arg("-i").arg(job.input()).arg("-o").arg(job.output());
    let output = run(command.args(["-t", "1", "--json"]).args(flags), b"");
    assert_success(&output);
    let choices = job.records().iter().map(|record| record["response"]["body"]["choices"].clone()).collect();
    (choices, serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn copies_are_the_same_and_take_few_passes() {
    let (copies, right) = (records(&json!({})), questions());
    for np in ["1", "4"] {
        let (with, summary) = answers(demo_f32(), &copies, &["-np", np, "--draft-n", "5"]);
        for (choices, (question, answer)) in with.iter().zip(&right) {
            assert_eq!(choices[0]["message"]["content"], **answer, "{question}");
            assert_eq!(choices[0]["finish_reason"], "stop");
        }
        let drafts = &summary["drafts"];
        assert!(drafts["tokens_per_pass"].as_f64().unwrap() > 2.0, "{np} slots: {drafts}");
    }
    // Biases, penalties and several answers beside the grammar.
    let extra =
        json!({"logit_bias": {"40": 5, "41": -5}, "frequency_penalty": 0.5, "n": 2, "temperature": 0.7, "seed": 4});
    let varied = &records(&extra)[18..38];
    let (with, summary) =
        answers(demo_f32(), varied, &["-np", "4", "-c", "256", "--kv-tokens", "512", "--draft-n", "5"]);
    let (without, _) = answers(demo_f32(), varied, &["-np", "4", "-c", "256", "--kv-tokens", "512", "--no-draft"]);
    let texts = |all: &[Value]| -> Vec<Value> {
        all.iter().flat_map(|choices| choices.as_array().unwrap().iter().map(|one| one["message"].clone())).collect()
    };
    assert_eq!(texts(&with), texts(&without));
    assert!(summary["drafts"]["accepted"].as_u64() > Some(100), "{summary}");
}

/// Whether the rows of a pass do not depend on each other for quantized weights (`vendor/matmul/matmul.cpp`).
fn rows_are_independent() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::is_x86_feature_detected!("avx512vnni")
        && std::is_x86_feature_detected!("avx512bw")
        && std::is_x86_feature_detected!("avx512vl");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

#[test]
fn quantized_weights_give_the_same_answers_with_one_slot() {
    let model = if rows_are_independent() { demo_model() } else { demo_f32() };
    println!("{}", model.display());
    let stories: Vec<Vec<u8>> = (0..30)
        .map(|i| {
            let ask = ["Tell me a story about a cat.", "Read me a bedtime story.", "Count to 30."][i % 3];
            chat(&format!("s{i}"), ask, &json!({"temperature": 0.8, "seed": i, "max_tokens": 120, "logprobs": true}))
        })
        .collect();
    let (with, summary) = answers(model, &stories, &["-np", "1", "--draft-n", "6"]);
    let (without, _) = answers(model, &stories, &["-np", "1", "--no-draft"]);
    for (with, without) in with.iter().zip(&without) {
        assert_eq!(with[0]["message"], without[0]["message"]);
        if rows_are_independent() {
            assert_eq!(with[0]["logprobs"], without[0]["logprobs"]);
        }
    }
    assert!(summary["drafts"]["accepted"].as_u64() > Some(50), "{summary}");
}
