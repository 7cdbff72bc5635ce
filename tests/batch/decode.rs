//! The scheduling of `batch` from outside: common prefixes are computed once, a small KV cache fails no record, and
//! `--deterministic` gives the same bytes.

use crate::support::batch::{Job, chat, expected_ids, ids, signal};
use crate::support::{last_line, run};
use serde_json::{Value, json};
use std::fs;

/// Records with a common prefix of `n` words.
fn alike(records: usize, n: usize, max_tokens: usize) -> Vec<Vec<u8>> {
    let beginning: Vec<String> = (0..n).map(|i| format!("{}", i % 7)).collect();
    let ask = |i| format!("{}. What is {i} and {}?", beginning.join(" "), i + 1);
    (0..records).map(|i| chat(&format!("r{i}"), &ask(i), &json!({"max_tokens": max_tokens}))).collect()
}

/// Runs a job to its end. Returns its summary.
fn summary(job: &Job, flags: &[&str]) -> Value {
    let mut all = vec!["--json"];
    all.extend(flags);
    let output = run(&mut job.command(&all), b"");
    assert_eq!(output.status.code(), Some(0), "{}", last_line(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn common_prefix_is_computed_once() {
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

/// The engine's part of the manifest.
fn engine(job: &Job) -> Value {
    let manifest = fs::read(format!("{}.manifest.json", job.output().display())).unwrap();
    serde_json::from_slice::<Value>(&manifest).unwrap()["last_run"]["engine"].clone()
}

#[test]
fn small_kv_cache_serves_all_slots_by_preemption() {
    // The KV cache has one context only, so the youngest requests are preempted again and again. Without repacking,
    // prompts are prefilled ahead, too, and are preempted first.
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
fn prefill_ahead_changes_no_answer() {
    // Short and long answers in turn: slots become free at different times, and prompts that were prefilled ahead take them.
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
    // The last bit of a logit may differ, and then one of two equally likely tokens.
    let same = alone.iter().zip(&many).filter(|(a, b)| a == b).count();
    assert!(same >= 36, "{same} of 40 alike");
}

fn fixed(np: &str) -> [&str; 7] {
    ["--deterministic", "--temp", "0.9", "-s", "7", "-np", np]
}

#[test]
fn deterministic_runs_give_equal_bytes_at_any_np_and_after_kills() {
    // The common prefix has complete prefill chunks and a part of one; the answers are sampled.
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
    // Alone, without a prefix to share.
    let last = Job::new(&lines[9..]);
    summary(&last, &fixed("1"));
    let text = |output: &str| -> Value {
        let line: Value = serde_json::from_str(output.lines().next_back().unwrap()).unwrap();
        line["response"]["body"]["choices"].clone()
    };
    assert_eq!(text(&whole), text(&fs::read_to_string(last.output()).unwrap()), "alone");
}

/// The contents of all choices of all records.
fn contents(job: &Job) -> Vec<String> {
    let text = |choice: &Value| choice["message"]["content"].as_str().unwrap().to_owned();
    let choices = |record: &Value| record["response"]["body"]["choices"].as_array().cloned().unwrap_or_default();
    job.records().iter().flat_map(choices).map(|choice| text(&choice)).collect()
}

/// One question, asked in `records` ways.
fn ask(records: usize, extra: &Value) -> Job {
    Job::new(&(0..records).map(|i| chat(&format!("r{i}"), &format!("What is {i} and {i}?"), extra)).collect::<Vec<_>>())
}

#[test]
fn repetition_penalty_covers_the_whole_answer() {
    let answers = |n: &str| {
        let job = ask(8, &json!({"repetition_penalty": 1.1, "max_tokens": 100}));
        summary(&job, &["--deterministic", "-n", n]);
        contents(&job)
    };
    assert_eq!(answers("1"), answers("300"));
}

#[test]
fn tiny_temperature_is_greedy() {
    let answers = |temperature: f64| {
        let job = ask(3, &json!({"temperature": temperature, "max_tokens": 12}));
        summary(&job, &["--deterministic"]);
        contents(&job)
    };
    let greedy = answers(0.0);
    for temperature in [1e-45, 1e-40, 1e-38, 1e-6] {
        assert_eq!(answers(temperature), greedy, "{temperature}");
    }
}

#[test]
fn overflowing_penalties_are_refused() {
    let ask = |extra: &Value| Job::new(&[chat("a", "Hello", extra)]);
    for (field, value) in [
        ("repetition_penalty", json!(1e-37)),
        ("repeat_penalty", json!(1e-37)),
        ("repetition_penalty", json!(101)),
        ("temperature", json!(-0.1)),
        ("presence_penalty", json!(2.1)),
    ] {
        let job = ask(&json!({ field: value }));
        assert_eq!(job.run(&[]).0, Some(1), "{field} {value}");
        let error = &job.records()[0]["error"];
        assert_eq!(error["code"], "invalid_parameter");
        assert!(error["message"].as_str().unwrap().contains(field), "{error}");
    }
    let both = ask(&json!({"repeat_penalty": 1.1, "repetition_penalty": 1.2}));
    assert_eq!(both.run(&[]).0, Some(1));
    assert!(both.records()[0]["error"]["message"].as_str().unwrap().contains("given together"));
    let none = ask(&json!({"top_logprobs": 0}));
    assert_eq!(none.run(&[]).0, Some(0), "asks for nothing");
}

#[test]
fn top_p_is_applied_after_the_temperature() {
    // At this temperature many tokens make up the upper half; before it, one token does.
    let job = Job::new(&[chat(
        "a",
        "Tell me a story.",
        &json!({"n": 100, "max_tokens": 1, "temperature": 3.0, "top_p": 0.5}),
    )]);
    summary(&job, &["-s", "3"]);
    let distinct: std::collections::BTreeSet<String> = contents(&job).into_iter().collect();
    assert!(distinct.len() > 5, "{distinct:?}");
}

#[test]
fn greedy_choices_are_computed_once_and_equal() {
    let job = Job::new(&[chat("a", "Tell me a story.", &json!({"n": 8, "max_tokens": 20}))]);
    let found = summary(&job, &["-np", "8"]);
    let texts = contents(&job);
    assert_eq!(texts.len(), 8);
    assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
    let usage = &job.records()[0]["response"]["body"]["usage"];
    assert_eq!(usage["completion_tokens"], 160, "as if each were computed");
    assert_eq!(found["prompt_tokens"], usage["prompt_tokens"]);
}

#[test]
fn log_probabilities_end_with_the_text() {
    // At a high temperature answers have bytes that are not UTF-8, and end in `</s>`.
    let job = ask(60, &json!({"temperature": 2.0, "logprobs": true, "max_tokens": 40}));
    summary(&job, &["-s", "11"]);
    let (mut ended, mut invalid) = (0, 0);
    for record in job.records() {
        let choice = &record["response"]["body"]["choices"][0];
        let text = choice["message"]["content"].as_str().unwrap();
        let tokens = choice["logprobs"]["content"].as_array().unwrap();
        ended += usize::from(choice["finish_reason"] == "stop");
        invalid += usize::from(text.contains('\u{fffd}'));
        let byte = |byte: &Value| u8::try_from(byte.as_u64().unwrap()).unwrap();
        let bytes = |token: &Value| token["bytes"].as_array().unwrap().iter().map(byte).collect::<Vec<u8>>();
        let last = tokens.last().map(|token| token["token"].as_str().unwrap()).unwrap_or_default();
        assert!(last != "</s>", "{choice}");
        // A special token inside has a name and no text.
        let names = ["<s>", "</s>", "<unk>"];
        let said: Vec<u8> =
            tokens.iter().filter(|token| !names.contains(&token["token"].as_str().unwrap())).flat_map(bytes).collect();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(said.starts_with(text), "{said:?} is not {text:?}");
        let without_last: Vec<u8> = tokens[..tokens.len().saturating_sub(1)].iter().flat_map(bytes).collect();
        assert!(text.is_empty() || !String::from_utf8_lossy(&without_last).starts_with(text), "one too many: {choice}");
    }
    assert!(ended > 0 && invalid > 0, "{ended} ended, {invalid} with invalid bytes: the test tests nothing");
}

/// Makes a control group (v1 or v2) with a memory limit of `limit` bytes. Returns its folder.
fn control_group(limit: u64) -> std::path::PathBuf {
    let name = format!("tulu-quant-test-{}-{limit}", std::process::id());
    for (top, file) in [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")] {
        let folder = std::path::Path::new(top).join(&name);
        if fs::create_dir(&folder).is_ok() {
            if fs::write(folder.join(file), limit.to_string()).is_ok() {
                return folder;
            }
            let _ = fs::remove_dir(&folder);
        }
    }
    panic!("no control group with a memory limit can be made here");
}

#[test]
#[ignore = "needs root and control groups"]
fn root_job_in_a_small_control_group_is_not_killed() {
    for mib in [60, 90] {
        let group = control_group(mib << 20);
        let job = ask(40, &json!({"max_tokens": 8}));
        let inner = job.command(&[]);
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "echo $$ > \"$0\"/cgroup.procs && exec \"$@\""]).arg(&group).arg(inner.get_program());
        let output = run(command.args(inner.get_args()), b"");
        let _ = fs::remove_dir(&group);
        assert_eq!(output.status.code(), Some(0), "{mib} MiB: {}", last_line(&output));
        assert_eq!(ids(&job.records()), expected_ids(40));
    }
}
