//! Drafts in `batch`: guessed tokens change no answer, whatever ends it.
//!
//! The model is stored in F32 and its KV cache too: with quantized weights the last bits of logits depend on the rows of a
//! pass, and then one of two equally likely tokens is chosen.

use crate::support::batch::{Job, chat, signal};
use crate::support::checkpoint::{bundled, bundled_draft};
use crate::support::gguf::GgufFile;
use crate::support::{assert_error, assert_success, demo_f32, draft_model, last_line, run, tulu_quant};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;
use tulu_quantize::gguf;

fn command(job: &Job, flags: &[&str]) -> Command {
    let mut command = tulu_quant();
    // Guess always, so that no test depends on measured times.
    if !["--no-draft", "--draft-n", "--measured"].iter().any(|flag| flags.contains(flag)) {
        command.env("TULU_QUANT_DRAFT_N", "5");
    }
    command.arg("batch").arg(demo_f32()).arg("-i").arg(job.input()).arg("-o").arg(job.output());
    command.args(["-t", "1", "-ctk", "f32", "-ctv", "f32", "--json"]);
    command.args(flags.iter().filter(|flag| **flag != "--measured"));
    command
}

/// Runs a job. Returns the choices of all records, and the summary.
fn answers(lines: &[Vec<u8>], flags: &[&str]) -> (Vec<Value>, Value) {
    let job = Job::new(lines);
    let output = run(&mut command(&job, flags), b"");
    assert_eq!(output.status.code(), Some(0), "{}", last_line(&output));
    (choices(&job), serde_json::from_slice(&output.stdout).unwrap())
}

fn choices(job: &Job) -> Vec<Value> {
    job.records().iter().map(|record| record["response"]["body"]["choices"].clone()).collect()
}

/// Asserts that drafts change no answer; returns the summary with drafts.
fn assert_same(lines: &[Vec<u8>], flags: &[&str]) -> Value {
    let (with, summary) = answers(lines, flags);
    let plain_flags: Vec<&str> = match flags.iter().position(|flag| *flag == "--draft-n") {
        Some(at) => [&flags[..at], &flags[at + 2..]].concat(),
        None => flags.to_vec(),
    };
    let (without, plain) = answers(lines, &[&plain_flags[..], &["--no-draft"]].concat());
    assert_eq!(plain["drafts"]["drafted"], 0);
    assert_eq!(plain["drafts"]["tokens_per_pass"], 1.0);
    for (i, (with, without)) in with.iter().zip(&without).enumerate() {
        assert_eq!(with, without, "record {i}, {flags:?}");
    }
    assert_eq!(summary["completion_tokens"], plain["completion_tokens"]);
    summary
}

/// The held-out conversations of the bundled model, without the last answer.
fn held_out(n: usize) -> Vec<Vec<u8>> {
    let text = fs::read_to_string(bundled().join("make/heldout.jsonl")).unwrap();
    let record = |(i, line): (usize, &str)| {
        let mut messages = serde_json::from_str::<Value>(line).unwrap()["messages"].as_array().unwrap().clone();
        if messages.last().is_some_and(|message| message["role"] == "assistant") {
            messages.pop();
        }
        chat(&format!("r{i}"), "", &json!({"messages": messages, "max_tokens": 200}))
    };
    text.lines().take(n).enumerate().map(record).collect()
}

/// Copy-heavy records: a story was told once, and is asked for again. Its hero is another one in each record.
fn copies(n: usize, extra: &Value) -> Vec<Vec<u8>> {
    told(1, n, extra)
}

/// [`copies`] of a story that was told `times` times.
fn told(times: usize, n: usize, extra: &Value) -> Vec<Vec<u8>> {
    let heroes = ["cat", "dog", "hen", "fox", "king", "queen", "mouse", "lion", "bear", "duck"];
    let names = ["Luna", "Max", "Oscar", "Ruby", "Bella"];
    let record = |i: usize| {
        let (hero, name) = (heroes[i % heroes.len()], names[i / heroes.len() % names.len()]);
        let ask = json!({"role": "user", "content": format!("Tell me a story about a {hero} called {name}.")});
        let story = format!(
            "Once upon a time there was a kind {hero} called {name}. {name} lived in a small village. One day {name} had a \
             lot of honey. A bird came by and was hungry. {name} thought for a moment and shared the honey. The bird said \
             thank you, and from that day on {name} and the bird were friends."
        );
        let mut messages = Vec::new();
        for _ in 0..times {
            messages.extend([ask.clone(), json!({"role": "assistant", "content": story})]);
        }
        messages.push(ask);
        let mut body = json!({"messages": messages, "max_tokens": 160});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        chat(&format!("c{i}"), "", &body)
    };
    (0..n).map(record).collect()
}

#[test]
fn answers_are_the_same_with_and_without_drafts() {
    let lines = held_out(40);
    for flags in [["-np", "1", "--draft-n", "3"], ["-np", "4", "--draft-n", "8"]] {
        assert_same(&lines, &flags);
    }
}

#[test]
fn measured_times_decide_and_change_no_answer() {
    assert_same(&copies(8, &json!({})), &["-np", "2", "--measured"]);
}

#[test]
#[ignore = "takes minutes"]
fn long_three_hundred_answers_are_the_same_at_every_number_of_slots() {
    let lines = held_out(300);
    for np in ["1", "4", "8"] {
        assert_same(&lines, &["-np", np]);
    }
}

#[test]
fn copied_text_takes_fewer_passes() {
    let summary = assert_same(&copies(50, &json!({})), &["-np", "1"]);
    let drafts = &summary["drafts"];
    assert!(drafts["tokens_per_pass"].as_f64().unwrap() > 1.5, "{drafts}");
    assert!(drafts["acceptance"].as_f64().unwrap() > 0.5, "{drafts}");
    // Each accepted token saves a pass, except one that ends its answer.
    let (tokens, passes) = (summary["completion_tokens"].as_u64().unwrap(), drafts["passes"].as_u64().unwrap());
    let accepted = drafts["accepted"].as_u64().unwrap();
    assert!((accepted.saturating_sub(50)..=accepted).contains(&(tokens - passes)), "{summary}");
}

#[test]
fn an_answer_ends_at_the_same_token_within_a_draft() {
    for extra in [
        json!({"stop": ["honey. A"]}),
        json!({"stop": ["ht for a mom", "zzz"]}),
        json!({"max_tokens": 23}),
        json!({"max_tokens": 24}),
        json!({"max_tokens": 1}),
        json!({"repetition_penalty": 1.05}),
        json!({"presence_penalty": 0.3, "frequency_penalty": 0.1}),
        json!({"temperature": 0.8, "top_p": 0.9, "seed": 5}),
        json!({"temperature": 1.2, "top_k": 20, "min_p": 0.05, "n": 2}),
    ] {
        let summary = assert_same(&copies(6, &extra), &["-np", "1"]);
        assert!(extra["max_tokens"] == 1 || summary["drafts"]["passes"].as_u64() > Some(0), "{extra}");
    }
}

#[test]
fn an_answer_ends_where_the_context_is_full() {
    let lines = told(2, 6, &json!({"max_tokens": 500}));
    let (with, _) = answers(&lines, &["-c", "256", "-np", "1"]);
    let summary = assert_same(&lines, &["-c", "256", "-np", "1"]);
    assert!(with.iter().any(|choices| choices[0]["finish_reason"] == "length"), "no context was full: {summary}");
    assert_same(&lines, &["-c", "256", "-np", "4", "--kv-tokens", "512"]);
}

#[test]
fn log_probabilities_are_the_same() {
    let lines = copies(4, &json!({"logprobs": true, "top_logprobs": 2}));
    let (with, summary) = answers(&lines, &["-np", "1"]);
    let (without, _) = answers(&lines, &["-np", "1", "--no-draft"]);
    assert!(summary["drafts"]["accepted"].as_u64() > Some(0), "{summary}");
    for (with, without) in with.iter().zip(&without) {
        let tokens = |choices: &Value| choices[0]["logprobs"]["content"].as_array().unwrap().clone();
        let (with, without) = (tokens(with), tokens(without));
        assert_eq!(with.len(), without.len());
        for (one, other) in with.iter().zip(&without) {
            assert_eq!((&one["token"], &one["bytes"]), (&other["token"], &other["bytes"]));
            let off = one["logprob"].as_f64().unwrap() - other["logprob"].as_f64().unwrap();
            assert!(off.abs() < 1e-3, "{one} {other}");
        }
    }
}

#[test]
fn a_run_stopped_within_drafts_resumes_to_the_same_output() {
    let lines = copies(30, &json!({}));
    let (whole, _) = answers(&lines, &["-np", "2", "--no-draft"]);
    let job = Job::new(&lines);
    for name in ["INT", "KILL"] {
        let before = job.journaled().len();
        let mut child = command(&job, &["-np", "2"]).stdout(std::process::Stdio::null()).spawn().unwrap();
        let mut runs = true;
        while runs && job.journaled().len() < before + 3 {
            std::thread::sleep(std::time::Duration::from_millis(2));
            runs = child.try_wait().unwrap().is_none();
        }
        // On a busy machine, the run may have ended first.
        if runs {
            signal(&child, name);
        }
        child.wait().unwrap();
    }
    assert_success(&run(&mut command(&job, &["-np", "2"]), b""));
    assert_eq!(choices(&job), whole);
}

#[test]
fn deterministic_runs_use_no_drafts() {
    let (_, summary) = answers(&copies(3, &json!({})), &["--deterministic"]);
    assert_eq!(summary["drafts"]["drafted"], 0);
    assert_eq!(summary["drafts"]["tokens_per_pass"], 1.0);
}

#[test]
fn summary_and_manifest_have_the_figures() {
    let job = Job::new(&copies(10, &json!({})));
    let output = run(&mut command(&job, &["-np", "1"]), b"");
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    let manifest = fs::read(format!("{}.manifest.json", job.output().display())).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&manifest).unwrap()["last_run"]["drafts"], summary["drafts"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains(" tokens a pass, "), "{}", last_line(&output));
}

#[test]
fn the_draft_model_is_small() {
    let bytes = fs::metadata(draft_model()).unwrap().len();
    assert!(bytes < 1_000_000, "{bytes} bytes");
}

/// Flags for the draft model, which guesses `n` tokens.
fn with_model(n: &'static str, np: &'static str) -> Vec<&'static str> {
    vec!["--draft", draft_model().to_str().unwrap(), "--draft-n", n, "-np", np]
}

/// [`assert_same`] with the draft model.
fn assert_same_with_model(lines: &[Vec<u8>], flags: &[&str]) -> Value {
    let (with, summary) = answers(lines, flags);
    let np = flags.iter().position(|flag| *flag == "-np").unwrap();
    let (without, _) = answers(lines, &["--no-draft", "-np", flags[np + 1]]);
    for (i, (with, without)) in with.iter().zip(&without).enumerate() {
        assert_eq!(with, without, "record {i}, {flags:?}");
    }
    summary
}

#[test]
fn answers_are_the_same_with_a_draft_model() {
    let lines = held_out(40);
    for (n, np) in [("4", "1"), ("2", "4")] {
        let summary = assert_same_with_model(&lines, &with_model(n, np));
        let drafts = &summary["drafts"];
        assert!(drafts["acceptance"].as_f64().unwrap() > 0.4, "the models know the same: {drafts}");
        assert!(drafts["tokens_per_pass"].as_f64().unwrap() > 1.5, "{drafts}");
    }
    // Prefixes are shared, sequences are preempted, and the draft model's cache is as small as the main model's.
    let mut small = with_model("3", "4");
    small.extend(["-c", "256", "--kv-tokens", "512"]);
    assert_same_with_model(&copies(8, &json!({})), &small);
}

#[test]
#[ignore = "takes minutes"]
fn long_three_hundred_answers_are_the_same_with_a_draft_model() {
    let lines = held_out(300);
    for np in ["1", "4", "8"] {
        assert_same_with_model(&lines, &with_model("4", np));
    }
}

#[test]
fn a_draft_model_with_another_vocabulary_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("other");
    fs::create_dir(&source).unwrap();
    for entry in fs::read_dir(bundled_draft()).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
        fs::copy(entry.path(), source.join(entry.file_name())).unwrap();
    }
    let tokenizer = source.join("tokenizer.model");
    let mut bytes = fs::read(&tokenizer).unwrap();
    // A piece of four letters becomes another one.
    let piece = "\u{2581}the".as_bytes();
    let at = bytes.windows(piece.len()).position(|window| window == piece).unwrap();
    bytes[at + piece.len() - 1] = b'Z';
    fs::write(&tokenizer, bytes).unwrap();
    let model = dir.path().join("other.gguf");
    assert_success(&run(tulu_quant().arg("convert").arg(&source).args(["-q", "Q8_0", "-o"]).arg(&model), b""));
    let job = Job::new(&held_out(1));
    let output = run(&mut command(&job, &["--draft", model.to_str().unwrap()]), b"");
    assert_error(&output, 2, "DRAFT_VOCABULARY", &["vocabulary of the draft model differs", ": token ", "Z"]);
    let output = run(&mut command(&job, &["--draft", draft_model().to_str().unwrap(), "--deterministic"]), b"");
    assert_error(&output, 2, "FLAGS", &["--deterministic uses no drafts"]);
}

/// Writes the model at `from` with more tokens at the end of its vocabulary, which have no text, and the weights of its last
/// tokens.
fn with_more_tokens(from: &Path, to: &Path) {
    const MORE: usize = 1024;
    let mut file = GgufFile::read(from);
    for (key, value) in &mut file.pairs {
        match (key.as_str(), value) {
            ("tokenizer.ggml.tokens", gguf::Value::Array(gguf::Array::Str(texts))) => {
                texts.extend((0..MORE).map(|i| format!("[PAD{i}]")));
            }
            ("tokenizer.ggml.scores", gguf::Value::Array(gguf::Array::F32(scores))) => scores.extend([-1000.0; MORE]),
            ("tokenizer.ggml.token_type", gguf::Value::Array(gguf::Array::I32(types))) => types.extend([5; MORE]), // unused
            ("llama.vocab_size", gguf::Value::U32(n)) => *n += u32::try_from(MORE).unwrap(),
            _ => {}
        }
    }
    for name in ["token_embd.weight", "output.weight"] {
        let tensor = file.tensor(name);
        let row = tensor.bytes.len() / usize::try_from(tensor.dims[1]).unwrap();
        tensor.bytes.extend_from_within(tensor.bytes.len() - MORE * row..);
        tensor.dims[1] += MORE as u64;
    }
    file.write(to);
}

#[test]
fn a_vocabulary_may_end_with_more_tokens_without_text() {
    let dir = tempfile::tempdir().unwrap();
    let (model, draft) = (dir.path().join("model.gguf"), dir.path().join("draft.gguf"));
    with_more_tokens(demo_f32(), &model);
    with_more_tokens(draft_model(), &draft);
    let longer = ["--draft", draft.to_str().unwrap(), "--draft-n", "4", "-np", "1"];
    let lines = held_out(12);
    let (plain, _) = answers(&lines, &["--no-draft", "-np", "1"]);
    let (with, summary) = answers(&lines, &longer);
    assert_eq!(with, plain);
    assert!(summary["drafts"]["acceptance"].as_f64().unwrap() > 0.4, "{summary}");
    // The additional tokens are as likely as others in the draft model, but it must not propose them.
    let (_, summary) = answers(&lines, &[&longer[..], &["--temp", "1"]].concat());
    assert!(summary["drafts"]["acceptance"].as_f64().unwrap() > 0.2, "{summary}");
    // The other way round: the model may write a token that the draft model does not have.
    let said = |flags: &[&str]| {
        let mut command = tulu_quant();
        command.arg("chat").arg(&model).args(["-p", "Tell me a story about a cat.", "-n", "40", "-s", "3", "--json"]);
        let output = run(command.args(["-t", "1", "-ctk", "f32", "-ctv", "f32"]).args(flags), b"");
        assert_success(&output);
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let flags = ["--draft", draft_model().to_str().unwrap(), "--draft-n", "3"];
    let (with, plain) = (said(&[&flags[..], &["--temp", "0"]].concat()), said(&["--no-draft", "--temp", "0"]));
    assert_eq!(with["text"], plain["text"]);
    assert_ne!(with["drafts"]["accepted"], 0);
    said(&[&flags[..], &["--temp", "1.5"]].concat());
}

/// How often each text occurs in all choices.
fn frequencies(choices: &[Value]) -> std::collections::BTreeMap<String, f64> {
    let mut counts = std::collections::BTreeMap::new();
    for choice in choices.iter().flat_map(|choices| choices.as_array().unwrap()) {
        *counts.entry(choice["message"]["content"].as_str().unwrap().to_owned()).or_insert(0.0) += 1.0;
    }
    counts
}

#[test]
#[ignore = "takes minutes"]
fn long_draft_model_does_not_change_the_distribution() {
    // The first four tokens of many answers; three of them are guessed.
    let ask = |i: usize| {
        let sampling =
            json!({"temperature": 0.7, "top_k": 50, "top_p": 0.95, "max_tokens": 5, "n": 100, "seed": 1000 * i});
        chat(&format!("r{i}"), "Tell me a story about a cat.", &sampling)
    };
    let lines = |from: usize| (from..from + 200).map(ask).collect::<Vec<_>>();
    let (with, summary) = answers(&lines(0), &with_model("3", "8"));
    assert!(summary["drafts"]["accepted"].as_u64() > Some(1000), "{summary}");
    let (without, _) = answers(&lines(1000), &["--no-draft", "-np", "8"]);
    let (with, without) = (frequencies(&with), frequencies(&without));
    let of = |counts: &std::collections::BTreeMap<String, f64>, text: &String| counts.get(text).copied().unwrap_or(0.0);
    // Pearson's test of homogeneity with two samples of 20,000 draws; rare texts count as one.
    let (mut statistic, mut freedom, mut rare) = (0.0, 0.0, (0.0, 0.0));
    let texts: std::collections::BTreeSet<&String> = with.keys().chain(without.keys()).collect();
    for text in texts {
        let (a, b) = (of(&with, text), of(&without, text));
        if a + b < 20.0 {
            rare = (rare.0 + a, rare.1 + b);
        } else {
            statistic += (a - b).powi(2) / (a + b);
            freedom += 1.0;
        }
    }
    if rare.0 + rare.1 >= 20.0 {
        statistic += (rare.0 - rare.1).powi(2) / (rare.0 + rare.1);
        freedom += 1.0;
    }
    freedom -= 1.0;
    // p = 0.01 (Wilson and Hilferty's approximation).
    let limit = freedom * (1.0 - 2.0 / (9.0 * freedom) + 2.326 * f64::sqrt(2.0 / (9.0 * freedom))).powi(3);
    assert!(freedom > 3.0 && statistic < limit, "{statistic}, {freedom} degrees of freedom, limit {limit}");
}
