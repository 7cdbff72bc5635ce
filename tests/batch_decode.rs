//! What the decoder does for `batch`, seen from outside: beginnings in common are computed once, a KV cache that is too
//! small for all answers at once costs none of them, and `--deterministic` keeps its word.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use std::fs;
use support::batch::{Job, chat, expected_ids, ids, signal};
use support::{last_line, run};

/// Records that begin with the same `n` words and end each in its own way.
fn alike(records: usize, n: usize, max_tokens: usize) -> Vec<Vec<u8>> {
    let beginning: Vec<String> = (0..n).map(|i| format!("{}", i % 7)).collect();
    let ask = |i| format!("{}. What is {i} and {}?", beginning.join(" "), i + 1);
    (0..records).map(|i| chat(&format!("r{i}"), &ask(i), &json!({"max_tokens": max_tokens}))).collect()
}

/// Runs a job to its end and gives its summary.
fn summary(job: &Job, flags: &[&str]) -> Value {
    let mut all = vec!["--json"];
    all.extend(flags);
    let output = run(&mut job.command(&all), b"");
    assert_eq!(output.status.code(), Some(0), "{}", last_line(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_common_beginning_is_computed_once_while_its_slot_is_in_use() {
    let records = 12;
    let job = Job::new(&alike(records, 100, 16));
    let found = summary(&job, &["-np", "6"]);
    assert_eq!(ids(&job.records()), expected_ids(records));
    let (prompt, cached) = (found["prompt_tokens"].as_u64().unwrap(), found["cached_tokens"].as_u64().unwrap());
    // Each prompt but the first has some 100 words of the first one, and ends in at most 40 tokens of its own.
    let own = prompt - cached;
    assert!(own < prompt / records as u64 + 40 * records as u64, "computed {own} of {prompt} prompt tokens");
    assert!(cached > prompt / 2, "{found}");
}

/// What the manifest beside the output says of the engine.
fn engine(job: &Job) -> Value {
    let manifest = fs::read(format!("{}.manifest.json", job.output().display())).unwrap();
    serde_json::from_slice::<Value>(&manifest).unwrap()["last_run"]["engine"].clone()
}

#[test]
fn a_kv_cache_for_two_answers_serves_eight_slots() {
    // A window is all the pool: the youngest answers have to step back, again and again. Where the weights stay as stored,
    // prompts are read ahead too, and give way.
    let records = 16;
    for (repack, repacked) in [("on", true), ("off", false)] {
        let job = Job::new(&alike(records, 20, 120));
        summary(&job, &["-c", "256", "-np", "8", "--kv-tokens", "256", "--repack", repack]);
        assert_eq!(engine(&job)["repacked"], repacked);
        let found = job.records();
        assert_eq!(ids(&found), expected_ids(records));
        assert!(found.iter().all(|record| record["error"].is_null()));
    }
    let job = Job::new(&alike(1, 1, 1));
    let (code, line) = job.run(&["-c", "512", "--kv-tokens", "256"]);
    assert_eq!(code, Some(2));
    assert!(line.contains("error[KV_TOKENS]") && line.contains("--kv-tokens 512"), "{line}");
}

#[test]
fn what_is_read_ahead_changes_no_answer() {
    // Short and long answers in turn, so that slots become free at different times and what was read ahead takes them.
    let ask =
        |i: usize| chat(&format!("r{i}"), &format!("What is {i} and {i}?"), &json!({"max_tokens": 1 + i * 7 % 30}));
    let lines: Vec<Vec<u8>> = (0..40).map(ask).collect();
    let answers = |flags: &[&str]| -> Vec<Value> {
        let job = Job::new(&lines);
        summary(&job, flags);
        let mut records = job.records();
        records.sort_by_key(|record| record["custom_id"].to_string());
        records.iter().map(|record| record["response"]["body"]["choices"][0]["message"]["content"].clone()).collect()
    };
    let alone = answers(&["-np", "1"]);
    let many = answers(&["-np", "4", "--repack", "off"]);
    // The last bit of a logit may differ, and with it a token that was as likely as another.
    let same = alone.iter().zip(&many).filter(|(a, b)| a == b).count();
    assert!(same >= 36, "{same} of 40 alike");
}

fn fixed(np: &str) -> [&str; 7] {
    ["--deterministic", "--temp", "0.9", "-s", "7", "-np", np]
}

#[test]
fn deterministic_runs_give_the_same_bytes_at_any_np_and_after_a_kill() {
    // The beginning in common has whole slices and a part of one; answers follow at a temperature.
    let lines = alike(10, 150, 24);
    let output = |np: &'static str, kills: usize| {
        let job = Job::new(&lines);
        for _ in 0..kills {
            let mut child = job.start_until(2, &fixed(np));
            signal(&child, "KILL");
            child.wait().unwrap();
        }
        summary(&job, &fixed(np));
        fs::read_to_string(job.output()).unwrap()
    };
    let whole = output("1", 0);
    assert_eq!(whole, output("8", 0), "another -np");
    assert_eq!(whole, output("4", 3), "after three kills");
    // Alone, without anything to share.
    let last = Job::new(&lines[9..]);
    summary(&last, &fixed("1"));
    let text = |output: &str| -> Value {
        let line: Value = serde_json::from_str(output.lines().next_back().unwrap()).unwrap();
        line["response"]["body"]["choices"].clone()
    };
    assert_eq!(text(&whole), text(&fs::read_to_string(last.output()).unwrap()), "alone");
}
