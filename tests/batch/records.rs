//! Records of `tulu-quant batch`: every line has exactly one record, in its place, through kills, torn journals and bad
//! lines.

use crate::support::batch::{Job, chat, expected_ids, ids, many, signal};
use crate::support::checkpoint::listing;
use crate::support::{last_line, run, tulu_quant};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn output_keeps_the_order_of_the_input() {
    let mut lines = many(9);
    lines.push(
        br#"{"custom_id":"r9","url":"/v1/completions","body":{"prompt":"Once upon a time","max_tokens":3}}"#.to_vec(),
    );
    let job = Job::new(&lines);
    let output = run(&mut job.command(&["--json"]), b"");
    assert_eq!(output.status.code(), Some(0), "{}", last_line(&output));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&summary["records"], &summary["failed"]), (&json!(10), &json!(0)));

    let records = job.records();
    assert_eq!(ids(&records), expected_ids(10));
    for record in &records {
        assert!(record["id"].is_string() && record["error"].is_null());
        assert_eq!(record["response"]["status_code"], 200);
        let body = &record["response"]["body"];
        let usage = &body["usage"];
        let sum = usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap();
        assert_eq!(usage["total_tokens"].as_u64(), Some(sum));
        assert!(["stop", "length"].contains(&body["choices"][0]["finish_reason"].as_str().unwrap()));
    }
    let first = &records[0]["response"]["body"];
    assert_eq!(first["object"], "chat.completion");
    assert_eq!(first["choices"][0]["message"]["role"], "assistant");
    assert!(first["choices"][0]["message"]["content"].is_string());
    let last = &records[9]["response"]["body"];
    assert_eq!(last["object"], "text_completion");
    assert!(last["choices"][0]["text"].is_string() && last["usage"]["completion_tokens"].as_u64().unwrap() <= 3);
    assert!(!job.journal().exists());
}

#[test]
fn bad_line_fails_only_its_own_record() {
    let good = |id: &str| chat(id, "Hello", &json!({}));
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (good("a"), "ok"),
        (b"{\"custom_id\": \"b\", ".to_vec(), "bad_json"),
        (b"[]".to_vec(), "invalid_record"),
        (Vec::new(), "passed over"),
        (b" \t\r".to_vec(), "passed over"),
        (b"\xff\xfe{}".to_vec(), "invalid_utf8"),
        (good("a"), "duplicate_custom_id"),
        (chat("c", "x", &json!({"messages": [{"role": "narrator", "content": "x"}]})), "invalid_messages"),
        (chat("d", "x", &json!({"messages": null})), "invalid_messages"),
        (chat("e", "x", &json!({"max_tokens": 0})), "invalid_parameter"),
        (chat("f", "x", &json!({"max_tokens": -1})), "invalid_parameter"),
        (chat("g", "x", &json!({"max_tokens": 1_000_000_000_000_000_000_u64})), "invalid_parameter"),
        (chat("h", "x", &json!({"temperature": "hot"})), "invalid_parameter"),
        (br#"{"custom_id":"i","url":"/v1/chat/completions","body":{"temperature":NaN}}"#.to_vec(), "bad_json"),
        (chat("j", "x", &json!({"stream": true})), "unsupported_parameter"),
        (chat("k", &"word ".repeat(3000), &json!({})), "context_length_exceeded"),
        (br#"{"custom_id":"l","url":"/v1/embeddings","body":{}}"#.to_vec(), "invalid_url"),
        ([b"[".repeat(10_000), b"]".repeat(10_000)].concat(), "bad_json"),
        (chat("m", "</s><s>\n<|assistant|>\n\u{0}", &json!({"stop": ["x"], "seed": 7, "temperature": 0.9})), "ok"),
        (chat("n", &"x".repeat(17 << 20), &json!({})), "line_too_long"),
        (good("o"), "ok"),
    ];
    let lines: Vec<Vec<u8>> = cases.iter().map(|(line, _)| line.clone()).collect();
    let job = Job::new(&lines);
    let (code, last) = job.run(&[]);
    assert_eq!(code, Some(1), "{last}");
    let records = job.records();
    let asked = || cases.iter().enumerate().filter(|(_, (_, expected))| *expected != "passed over");
    assert_eq!(records.len(), asked().count());
    for (record, (i, (_, expected))) in records.iter().zip(asked()) {
        if *expected == "ok" {
            assert_eq!(record["response"]["status_code"], 200, "line {}: {record}", i + 1);
        } else {
            assert_eq!(record["error"]["code"], **expected, "line {}: {record}", i + 1);
            assert_eq!(record["error"]["line"], i + 1);
            assert_eq!(record["response"]["status_code"], 400);
            let error = &record["response"]["body"]["error"];
            assert_eq!((&error["code"], &error["message"]), (&record["error"]["code"], &record["error"]["message"]));
            assert!(
                error["message"].is_string() && error["type"] == "invalid_request_error" && error["param"].is_null()
            );
        }
    }
    assert_eq!(records[6]["custom_id"], "d");
}

#[test]
fn too_long_content_fails_quickly() {
    let long = |id: &str, text: &str| chat(id, text, &json!({}));
    let job = Job::new(&[
        long("a", &"x".repeat(2_000_000)),
        long("b", &"\u{1F999}".repeat(500_000)),
        long("c", &"word ".repeat(400_000)),
        long("d", &"\0".repeat(2_000_000)),
        long("e", "Hello"),
    ]);
    let began = Instant::now();
    assert_eq!(job.run(&[]).0, Some(1));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    for record in &job.records()[..4] {
        assert_eq!(record["error"]["code"], "context_length_exceeded", "{record}");
    }
    assert!(job.records()[4]["error"].is_null());
}

#[test]
fn resumes_after_kill() {
    const N: usize = 100;
    let job = Job::new(&many(N));
    let mut kept: Vec<String> = Vec::new();
    for n in [1, 3, 7] {
        let mut child = job.start_until(n, &["-np", "3"]);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!job.output().exists(), "no output before all is done");
        let now = job.journaled();
        assert_eq!(now[..kept.len()], kept, "what was finished stays");
        kept = now;
    }
    // The last record is cut, as after a power failure.
    let bytes = fs::read(job.journal()).unwrap();
    fs::write(job.journal(), &bytes[..bytes.len() - 9]).unwrap();
    kept.pop();
    let output = run(&mut job.command(&["-np", "2"]), b"");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains(&format!("resuming: {} of {N} records are done", kept.len())), "{stderr}");
    assert_eq!(ids(&job.records()), expected_ids(N), "none lost, none doubled");
    let text = fs::read_to_string(job.output()).unwrap();
    assert!(kept.iter().all(|record| text.lines().any(|line| line == record)), "what was finished is in the output");
    assert_eq!(listing(job.folder.path()), ["in.jsonl", "out.jsonl", "out.jsonl.manifest.json"], "no journal");
}

#[test]
fn changed_run_is_refused_until_restart_or_force() {
    let job = Job::new(&many(12));
    let mut child = job.start_until(2, &["-np", "1"]);
    child.kill().unwrap();
    child.wait().unwrap();

    let refused = |flags: &[&str], why: &str| {
        let (code, last) = job.run(flags);
        assert_eq!(code, Some(2), "{last}");
        assert!(last.starts_with("tulu-quant: error[RESUME_MISMATCH]: ") && last.contains(why), "{last}");
    };
    refused(&["--temp", "0.5"], "settings changed");
    let input = fs::read(job.input()).unwrap();
    fs::write(job.input(), many(12)[6..].join(&b'\n')).unwrap();
    refused(&[], "input changed");
    fs::write(job.input(), many(11).join(&b'\n')).unwrap();
    assert_eq!(job.run(&["--restart"]).0, Some(0));
    assert_eq!(ids(&job.records()), expected_ids(11));

    fs::write(job.input(), input).unwrap();
    let (code, last) = job.run(&[]);
    assert!(code == Some(2) && last.contains("error[OUTPUT_EXISTS]"), "{last}");
    assert_eq!(job.run(&["--force"]).0, Some(0));
    assert_eq!(ids(&job.records()), expected_ids(12));
}

#[test]
fn ctrl_c_keeps_finished_records() {
    let job = Job::new(&many(150));
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let child = job.start_until(2, &["-np", "2"]);
        signal(&child, name);
        let asked = Instant::now();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", last_line(&output));
        assert!(asked.elapsed() < Duration::from_secs(10));
        let last = last_line(&output);
        assert!(last.contains("error[INTERRUPTED]") && last.contains(" batch ") && last.contains("-o "), "{last}");
    }
    assert_eq!(job.run(&[]).0, Some(0));
    assert_eq!(ids(&job.records()), expected_ids(150));
}

#[test]
fn second_run_reports_locked_output() {
    let job = Job::new(&many(2000));
    let mut child = job.start_until(1, &[]);
    let (code, last) = job.run(&[]);
    assert!(code == Some(3) && last.contains("error[OUTPUT_LOCKED]"), "{last}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn bad_paths_fail_before_the_model_is_loaded() {
    let job = Job::new(&many(1));
    let batch = |input: &Path, output: &Path| {
        let mut command = tulu_quant();
        command.arg("batch").arg("no-model.gguf").arg("-i").arg(input).arg("-o").arg(output);
        let output = run(&mut command, b"");
        (output.status.code(), last_line(&output))
    };
    let (code, last) = batch(Path::new("no/such/file"), &job.output());
    assert!(code == Some(2) && last.contains("no/such/file"), "{last}");
    let pipe = job.folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (code, last) = batch(&pipe, &job.output());
    assert!(code == Some(2) && last.contains("is not a regular file"), "{last}");
    fs::remove_file(pipe).unwrap();
    let (code, last) = batch(&job.input(), Path::new("no/such/folder/out"));
    assert!(code == Some(2) && last.contains("no/such/folder"), "{last}");
    let (code, last) = batch(&job.input(), &job.input());
    assert!(code == Some(2) && last.contains("is the input"), "{last}");
    let (code, last) = batch(&job.input(), &job.output());
    assert!(code == Some(2) && last.contains("no-model.gguf"), "{last}");
    assert_eq!(listing(job.folder.path()), ["in.jsonl"], "nothing is left behind");
}
