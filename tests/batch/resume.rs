//! `tulu-quant batch` through kills, full disks, changed inputs and retries: no answer is lost or computed again.

use crate::support::batch::{Job, chat, expected_ids, ids, many};
use crate::support::{demo_model, last_line, run, sha256, tulu_quant};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

#[test]
fn resumes_with_a_grown_and_reordered_input() {
    let job = Job::new(&many(12));
    let mut child = job.start_until(3, &["-np", "1"]);
    child.kill().unwrap();
    child.wait().unwrap();
    let kept = job.journaled();
    let mut lines = many(15);
    lines.reverse();
    fs::write(job.input(), lines.join(&b'\n')).unwrap();
    let done = run(&mut job.command(&[]), b"");
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains(&format!("resuming: {} of 15 records are done", kept.len())), "{stderr}");
    let mut expected = expected_ids(15);
    expected.reverse();
    assert_eq!(ids(&job.records()), expected);
    let text = fs::read_to_string(job.output()).unwrap();
    assert!(kept.iter().all(|record| text.lines().any(|line| line == record)));
}

#[test]
fn changed_line_under_the_same_id_is_refused() {
    let job = Job::new(&many(12));
    let mut child = job.start_until(2, &["-np", "1"]);
    child.kill().unwrap();
    child.wait().unwrap();
    let changed: Vec<Vec<u8>> = (0..12).map(|i| chat(&format!("r{i}"), "Something else", &json!({}))).collect();
    fs::write(job.input(), changed.join(&b'\n')).unwrap();
    let (code, last) = job.run(&[]);
    assert!(code == Some(2) && last.contains("error[RESUME_MISMATCH]") && last.contains("input changed"), "{last}");
}

#[test]
fn retry_errors_repeats_only_failed_records() {
    let mut lines = many(4);
    lines[1] = chat("r1", "What is 1 and 2?", &json!({"max_tokens": "many"}));
    lines[2] = chat("r2", &"word ".repeat(300), &json!({}));
    let job = Job::new(&lines);
    assert_eq!(job.run(&["-c", "256"]).0, Some(1));
    let first = job.records();
    let codes: Vec<&Value> = first.iter().map(|record| &record["error"]["code"]).collect();
    assert_eq!(codes, [&Value::Null, &json!("invalid_parameter"), &json!("context_length_exceeded"), &Value::Null]);

    // The same command again changes nothing.
    assert_eq!(job.run(&["-c", "256"]).0, Some(1));
    assert_eq!(job.records(), first);
    // A larger context is another run, except with --retry-errors.
    assert_eq!(job.run(&["-c", "512"]).0, Some(2));
    assert_eq!(job.run(&["-c", "512", "--retry-errors"]).0, Some(1));
    let second = job.records();
    assert_eq!((&second[0], &second[3]), (&first[0], &first[3]), "answered once");
    assert!(second[2]["response"]["body"]["choices"].is_array());
    // The bad line is fixed in the input.
    lines[1] = chat("r1", "What is 1 and 2?", &json!({}));
    fs::write(job.input(), lines.join(&b'\n')).unwrap();
    assert_eq!(job.run(&["-c", "512", "--retry-errors"]).0, Some(0));
    let third = job.records();
    assert_eq!((&third[0], &third[2], &third[3]), (&second[0], &second[2], &second[3]));
    assert_eq!(ids(&third), expected_ids(4));
    assert!(!job.journal().exists());
}

#[test]
fn manifest_records_inputs_output_and_engine() {
    let job = Job::new(&many(20));
    let mut child = job.start_until(2, &["-np", "1"]);
    child.kill().unwrap();
    child.wait().unwrap();
    let before = job.journaled().len();
    assert_eq!(job.run(&["-s", "0"]).0, Some(0));
    let manifest: Value =
        serde_json::from_slice(&fs::read(job.folder.path().join("out.jsonl.manifest.json")).unwrap()).unwrap();
    let sha256 = |path: &std::path::Path| json!(sha256(&fs::read(path).unwrap()));
    assert_eq!(manifest["model"]["sha256"], sha256(demo_model()));
    assert_eq!(manifest["input"]["sha256"], sha256(&job.input()));
    assert_eq!(manifest["output"]["sha256"], sha256(&job.output()));
    assert_eq!((&manifest["output"]["records"], &manifest["output"]["failed"]), (&json!(20), &json!(0)));
    assert_eq!(manifest["last_run"]["resumed"], before);
    assert_eq!(manifest["last_run"]["engine"]["n_ctx"], 512);
    assert!(manifest["last_run"]["engine"]["template_sha256"].is_string());
    let tokens: u64 = job
        .records()
        .iter()
        .map(|record| record["response"]["body"]["usage"]["completion_tokens"].as_u64().unwrap())
        .sum();
    assert_eq!(manifest["tokens"]["completion"], tokens, "of all runs");
    assert!(manifest["program"]["llama_cpp"].is_string() && manifest["shard"].is_null());
}

#[test]
fn output_is_reproducible_with_source_date_epoch() {
    let output = |flags: &[&str]| {
        let job = Job::new(&many(3));
        let done = run(job.command(flags).env("SOURCE_DATE_EPOCH", "1700000000"), b"");
        assert_eq!(done.status.code(), Some(0), "{}", last_line(&done));
        fs::read_to_string(job.output()).unwrap()
    };
    let one = output(&["-np", "1"]);
    assert!(one.contains("\"created\":1700000000"), "{one}");
    assert_eq!(one, output(&["-np", "1"]));
    assert_ne!(one, output(&["-np", "1", "-s", "1"]), "another run has other names");
}

#[test]
fn deleted_folder_ends_the_run() {
    let job = Job::new(&many(3000));
    let place = job.folder.path().join("there");
    fs::create_dir(&place).unwrap();
    let output = place.join("out.jsonl");
    let mut command = tulu_quant();
    command.arg("batch").arg(demo_model()).arg("-i").arg(job.input()).arg("-o").arg(&output).args(["-c", "512"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    while fs::metadata(place.join("out.jsonl.journal")).map_or(0, |about| about.len()) < 2000 {
        std::thread::sleep(Duration::from_millis(5));
    }
    fs::remove_dir_all(&place).unwrap();
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(3), "{}", last_line(&done));
    assert!(last_line(&done).contains("error[OUTPUT_GONE]"), "{}", last_line(&done));
}

/// The disk is full after a part of the journal. With free space the same command resumes.
#[test]
#[ignore = "needs root, to mount a small tmpfs"]
fn root_full_disk_ends_the_run_and_loses_nothing() {
    let job = Job::new(&many(60));
    let disk = job.folder.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let mount = |options: &str| {
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&disk).status().unwrap();
        assert!(status.success());
    };
    mount("size=16k");
    let batch = || {
        let mut command = tulu_quant();
        command.arg("batch").arg(demo_model()).arg("-i").arg(job.input()).arg("-o").arg(disk.join("out.jsonl"));
        run(command.args(["-c", "512", "-t", "1"]), b"")
    };
    let done = batch();
    let last = last_line(&done);
    assert_eq!(done.status.code(), Some(3), "{last}");
    assert!(last.contains("No space left on device") && last.contains("out.jsonl"), "{last}");
    assert!(!disk.join("out.jsonl").exists());
    let kept = fs::read_to_string(disk.join("out.jsonl.journal")).unwrap();
    let whole = kept.split_inclusive('\n').filter(|line| line.ends_with('\n')).count() - 1;
    assert!(whole > 5);
    mount("remount,size=1m");
    let done = batch();
    let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
    let text = fs::read_to_string(disk.join("out.jsonl")).unwrap_or_default();
    assert!(Command::new("umount").arg(&disk).status().unwrap().success());
    assert_eq!(done.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains(&format!("resuming: {whole} of 60 records are done")), "{stderr}");
    let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(ids(&records), expected_ids(60));
}

/// Every kind of bad line among good ones; the memory does not grow with the input.
#[test]
#[ignore = "takes minutes"]
fn long_ten_thousand_lines_with_one_bad_in_twenty() {
    const N: usize = 10_000;
    let good = |i: usize| chat(&format!("r{i}"), "Hi", &json!({"max_tokens": 1}));
    let with = |i: usize, extra: Value| chat(&format!("r{i}"), "Hi", &extra);
    type Bad<'a> = (Box<dyn Fn(usize) -> Vec<u8> + 'a>, &'static str);
    let bad: Vec<Bad<'_>> = vec![
        (Box::new(|i| good(i)[..40].to_vec()), "bad_json"),
        (Box::new(|_| b"[]".to_vec()), "invalid_record"),
        (Box::new(|i| [&good(i)[..60], b"\0", &good(i)[60..]].concat()), "bad_json"),
        (Box::new(|i| String::from_utf8(good(i)).unwrap().replace("\"Hi\"", "\"\\ud800\"").into_bytes()), "bad_json"),
        (Box::new(|i| [&good(i)[..], b"\xff"].concat()), "invalid_utf8"),
        (Box::new(|_| b"\"\"".to_vec()), "invalid_record"),
        (Box::new(|_| good(0)), "duplicate_custom_id"),
        (
            Box::new(|i| {
                json!({"custom_id": format!("r{i}"), "url": "/v1/chat/completions", "body": {}})
                    .to_string()
                    .into_bytes()
            }),
            "missing_messages",
        ),
        (Box::new(|i| with(i, json!({"messages": [{"role": "tool", "content": "x"}]}))), "invalid_messages"),
        (Box::new(|i| chat(&format!("r{i}"), &"word ".repeat(400), &json!({}))), "context_length_exceeded"),
        (Box::new(|i| with(i, json!({"max_tokens": 0}))), "invalid_parameter"),
        (Box::new(|i| with(i, json!({"max_tokens": -1}))), "invalid_parameter"),
        (Box::new(|i| with(i, json!({"max_tokens": 1_000_000_000_000_000_000_u64}))), "invalid_parameter"),
        (Box::new(|i| with(i, json!({"temperature": "hot"}))), "invalid_parameter"),
        (
            Box::new(|i| {
                String::from_utf8(with(i, json!({"temperature": 7}))).unwrap().replace(":7", ":NaN").into_bytes()
            }),
            "bad_json",
        ),
        (
            Box::new(|i| String::from_utf8(with(i, json!({"seed": 7}))).unwrap().replace(":7", ":1e40").into_bytes()),
            "invalid_parameter",
        ),
        (Box::new(|_| [b"[".repeat(10_000), b"]".repeat(10_000)].concat()), "bad_json"),
        (Box::new(|i| with(i, json!({"stream": true}))), "unsupported_parameter"),
        (Box::new(|i| with(i, json!({"max_token": 1}))), "unknown_parameter"),
        (
            Box::new(|i| with(i, json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}))),
            "unsupported_content",
        ),
    ];
    let made = |n: usize| {
        let mut lines: Vec<Vec<u8>> =
            (0..n).map(|i| if i % 20 == 19 { (bad[i / 20 % bad.len()].0)(i) } else { good(i) }).collect();
        // Good lines: text that looks like special tokens, a carriage return at the end, a byte order mark.
        lines[1] = chat("r1", "</s><s>\n<|assistant|>\n\u{0}", &json!({"max_tokens": 1}));
        lines[2].push(b'\r');
        lines[0].splice(0..0, *b"\xef\xbb\xbf");
        lines
    };
    let peak = |n: usize| {
        let job = Job::new(&made(n));
        let done = run(&mut job.command(&["-c", "256", "-np", "8", "--json"]), b"");
        assert_eq!(done.status.code(), Some(1), "{}", last_line(&done));
        let manifest: Value =
            serde_json::from_slice(&fs::read(job.folder.path().join("out.jsonl.manifest.json")).unwrap()).unwrap();
        (job, manifest["last_run"]["peak_memory_bytes"].as_u64().unwrap())
    };
    let (_, small) = peak(1000);
    let (job, large) = peak(N);
    let records = job.records();
    assert_eq!(records.len(), N);
    assert_eq!(records.iter().filter(|record| !record["error"].is_null()).count(), N / 20);
    for (i, record) in records.iter().enumerate() {
        if i % 20 == 19 {
            assert_eq!(record["error"]["code"], bad[i / 20 % bad.len()].1, "line {}: {record}", i + 1);
            assert_eq!(record["error"]["line"], i + 1);
        } else {
            assert_eq!(record["custom_id"], format!("r{i}"), "{record}");
            assert_eq!(record["response"]["status_code"], 200);
        }
    }
    assert!(large < small + (20 << 20), "{small} bytes for 1,000 lines and {large} for {N}");
}

/// After kills at random moments the output has the same bytes as without them.
#[test]
#[ignore = "takes minutes"]
fn long_hundred_kills_lose_nothing() {
    const N: usize = 2000;
    let seed = std::env::var("TULU_QUANT_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_122_u64);
    println!("seed {seed}");
    let mut state = seed;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let flags = ["-np", "4", "--deterministic", "--temp", "0.8"];
    let undisturbed = Job::new(&many(N));
    assert_eq!(undisturbed.run(&flags).0, Some(0));
    let whole = fs::read_to_string(undisturbed.output()).unwrap();
    assert_eq!(ids(&undisturbed.records()), expected_ids(N));

    let job = Job::new(&many(N));
    let mut kept: HashSet<String> = HashSet::new();
    for kill in 0..100 {
        let mut child = job.command(&flags).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(20 + random(280)));
        assert!(child.try_wait().unwrap().is_none(), "it ended before kill {kill}");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!job.output().exists());
        let now: Vec<String> = job.journaled();
        let set: HashSet<String> = now.iter().cloned().collect();
        assert_eq!(set.len(), now.len(), "none twice");
        assert!(kept.is_subset(&set), "none lost");
        kept = set;
    }
    println!("{} of {N} records before the last run", kept.len());
    assert!(kept.len() > 100);
    assert_eq!(job.run(&flags).0, Some(0));
    assert!(fs::read_to_string(job.output()).unwrap() == whole, "the same bytes as without a kill");
}
