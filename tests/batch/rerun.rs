//! A second run of `tulu-quant batch`: after the first has finished, with a damaged journal, with a grown input of
//! shards, and `batch merge` beside an unfinished run.

use crate::support::batch::{Job, chat, expected_ids, ids, many};
use crate::support::checkpoint::listing;
use crate::support::{demo_model, last_line, run, stderr, tulu_quant};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

fn manifest(output: &Path) -> Value {
    let path = format!("{}.manifest.json", output.display());
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Kills a run after `n` records.
fn killed(job: &Job, n: usize, flags: &[&str]) {
    let mut child = job.start_until(n, flags);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(job.journal().exists());
}

#[test]
fn rerun_of_a_finished_run_changes_nothing() {
    let job = Job::new(&many(4));
    assert_eq!(job.run(&["-n", "8"]).0, Some(0));
    let whole = fs::read(job.output()).unwrap();
    let before = manifest(&job.output());
    let again = run(&mut job.command(&["-n", "8", "--json", "-np", "2"]), b"");
    assert_eq!(again.status.code(), Some(0), "{}", last_line(&again));
    assert!(last_line(&again).contains("out.jsonl is finished: all 4 records"), "{}", last_line(&again));
    let summary: Value = serde_json::from_slice(&again.stdout).unwrap();
    let fields = [&summary["records"], &summary["answered"], &summary["failed"], &summary["resumed"]];
    assert_eq!(fields, [&json!(4), &json!(4), &json!(0), &json!(4)]);
    assert_eq!(
        (fs::read(job.output()).unwrap(), manifest(&job.output())),
        (whole.clone(), before),
        "nothing is written"
    );
    assert_eq!(listing(job.folder.path()), ["in.jsonl", "out.jsonl", "out.jsonl.manifest.json"]);

    // Any difference makes it another run, whose output needs --force.
    let there = |flags: &[&str], why: &str| {
        let (code, last) = job.run(flags);
        assert!(code == Some(2) && last.contains("error[OUTPUT_EXISTS]") && last.contains(why), "{flags:?}: {last}");
    };
    there(&["-n", "9"], "settings changed");
    there(&["-n", "8", "-c", "256"], "context size changed");
    there(&["-n", "8", "--generator", "me"], "name of the model and settings changed");
    there(&["-n", "8", "--restart"], "already exists;");
    fs::write(job.output(), [&whole[..], b"\n"].concat()).unwrap();
    there(&["-n", "8"], "was modified after its run finished");
    fs::write(job.output(), &whole).unwrap();
    fs::write(job.input(), many(5).join(&b'\n')).unwrap();
    there(&["-n", "8"], "for another input");
    assert_eq!(job.run(&["-n", "8", "--force"]).0, Some(0));
    assert_eq!(ids(&job.records()), expected_ids(5));
    fs::remove_file(job.folder.path().join("out.jsonl.manifest.json")).unwrap();
    there(&["-n", "8"], "already exists;");
}

#[test]
fn damaged_journal_byte_costs_one_record() {
    let job = Job::new(&many(40));
    killed(&job, 9, &["-np", "1"]);
    let mut bytes = fs::read(job.journal()).unwrap();
    let ends: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] == b'\n').collect();
    let whole = ends.len() - 1;
    bytes[ends[2] + 40] = 0xff;
    fs::write(job.journal(), &bytes).unwrap();
    let kept: Vec<String> = job.journaled().into_iter().enumerate().filter(|(i, _)| *i != 2).map(|(_, r)| r).collect();
    let done = run(&mut job.command(&["-np", "1"]), b"");
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    assert!(stderr(&done).contains("skipped 1 damaged lines of the journal"), "{}", stderr(&done));
    assert!(stderr(&done).contains(&format!("resuming: {} of 40 records are done", whole - 1)), "{}", stderr(&done));
    assert_eq!(ids(&job.records()), expected_ids(40));
    let text = fs::read_to_string(job.output()).unwrap();
    assert!(kept.iter().all(|record| text.lines().any(|line| line == record)), "the others are as they were");
}

#[test]
fn resumes_with_closed_stderr() {
    let job = Job::new(&many(12));
    killed(&job, 2, &["-np", "1"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = job.command(&[]);
    assert_eq!(command.stderr(writer.try_clone().unwrap()).status().unwrap().code(), Some(0));
    assert_eq!(ids(&job.records()), expected_ids(12));
    assert_eq!(job.command(&[]).stderr(writer).status().unwrap().code(), Some(0), "finished");
}

#[test]
fn journal_of_another_run_is_not_changed() {
    let job = Job::new(&many(40));
    killed(&job, 3, &["-np", "1"]);
    let mut bytes = fs::read(job.journal()).unwrap();
    bytes.extend_from_slice(b"torn");
    fs::write(job.journal(), &bytes).unwrap();
    let unchanged = |flags: &[&str], model: &Path, code: &str| {
        let mut command = tulu_quant();
        command.arg("batch").arg(model).arg("-i").arg(job.input()).arg("-o").arg(job.output());
        let done = run(command.args(["-t", "1"]).args(flags), b"");
        assert!(done.status.code() == Some(2) && last_line(&done).contains(code), "{}", last_line(&done));
        assert_eq!(fs::read(job.journal()).unwrap(), bytes, "{flags:?}");
    };
    unchanged(&["--restart"], Path::new("mistyped.gguf"), "mistyped.gguf");
    unchanged(&[], Path::new("mistyped.gguf"), "mistyped.gguf");
    unchanged(&["--temp", "0.5"], demo_model(), "error[RESUME_MISMATCH]");
    unchanged(&["-c", "256"], demo_model(), "context size changed");
    unchanged(&["--generator", "x"], demo_model(), "name of the model");
}

#[test]
fn resume_keeps_the_context_size_of_the_first_run() {
    let job = Job::new(&many(12));
    killed(&job, 2, &["-np", "1", "-c", "256"]);
    let mut command = tulu_quant();
    command.arg("batch").arg(demo_model()).arg("-i").arg(job.input()).arg("-o").arg(job.output()).args(["-t", "1"]);
    let done = run(&mut command, b"");
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    let about = manifest(&job.output());
    assert_eq!((&about["window"], &about["last_run"]["engine"]["n_ctx"]), (&json!(256), &json!(256)));
    // Without -c it is that of the model.
    fs::remove_file(job.output()).unwrap();
    assert_eq!(run(&mut command, b"").status.code(), Some(0));
    assert_eq!(manifest(&job.output())["window"], 1024);
}

/// Runs a shard of `job`. Returns its output and the text of stderr.
fn shard(job: &Job, which: &str, flags: &[&str]) -> (PathBuf, String) {
    let output = job.folder.path().join(format!("part-{}", which.replace('/', "-")));
    let mut command = tulu_quant();
    command.arg("batch").arg(demo_model()).arg("-i").arg(job.input()).arg("-o").arg(&output).args(["-c", "512"]);
    let done = run(command.args(["-t", "1", "-np", "1", "--shard", which]).args(flags), b"");
    assert!(matches!(done.status.code(), Some(0 | 1)), "{}", stderr(&done));
    (output, stderr(&done))
}

fn merge(job: &Job, parts: &[PathBuf]) -> (Option<i32>, String) {
    let mut command = tulu_quant();
    command.args(["batch", "merge", "--force", "-o"]).arg(job.folder.path().join("merged")).args(parts);
    let done = run(&mut command, b"");
    (done.status.code(), last_line(&done))
}

fn usage(output: &Path, field: &str) -> u64 {
    let text = fs::read_to_string(output).unwrap();
    let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    records.map(|record| record["response"]["body"]["usage"][field].as_u64().unwrap_or(0)).sum()
}

/// The input grows between two runs of the shards. Records and token counts are those of the new input.
#[test]
fn shards_of_a_grown_or_reordered_input_merge_correctly() {
    let record = |name: &str, bad: bool| {
        let extra = if bad { json!({"max_tokens": "many"}) } else { json!({}) };
        chat(name, &format!("What is {name}?"), &extra)
    };
    // A failed record keeps the journal, as a kill does.
    let old: Vec<Vec<u8>> = (0..5).map(|i| record(&format!("r{i}"), i == 4)).collect();
    for order in [vec![9, 0, 1, 2, 3, 4], vec![4, 3, 2, 1, 0], vec![0, 9, 2, 1, 4, 3], vec![0, 1, 2, 3, 4, 9]] {
        let job = Job::new(&old);
        for which in ["1/2", "2/2"] {
            shard(&job, which, &[]);
        }
        let new: Vec<Vec<u8>> = order.iter().map(|i| record(&format!("r{i}"), *i == 4)).collect();
        fs::write(job.input(), new.join(&b'\n')).unwrap();
        let parts = ["1/2", "2/2"].map(|which| {
            let (output, said) = shard(&job, which, &["--force"]);
            let about = manifest(&output);
            let lines = fs::read_to_string(&output).unwrap().lines().count() as u64;
            assert_eq!(about["output"]["records"], lines, "{order:?} {said}");
            for (ours, theirs) in [("prompt", "prompt_tokens"), ("completion", "completion_tokens")] {
                assert_eq!(about["tokens"][ours], usage(&output, theirs), "{order:?} {which} {ours}");
            }
            if let Some((_, rest)) = said.split_once("going on after ") {
                let mut numbers = rest.split(' ').filter_map(|word| word.parse::<u64>().ok());
                let (resumed, total) = (numbers.next().unwrap(), numbers.next().unwrap());
                assert!(resumed <= total && total == lines, "{said}");
            }
            output
        });
        let (code, last) = merge(&job, &parts);
        assert_eq!(code, Some(1), "{last}");
        let text = fs::read_to_string(job.folder.path().join("merged")).unwrap();
        let names: Vec<Value> =
            text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["custom_id"].clone()).collect();
        let expected: Vec<Value> = order.iter().map(|i| json!(format!("r{i}"))).collect();
        assert_eq!(names, expected, "in the order of the input");
    }
}

#[test]
fn unfinished_shard_is_not_merged() {
    let job = Job::new(&many(2000));
    fs::write(job.input(), many(6).join(&b'\n')).unwrap();
    let (one, _) = shard(&job, "1/2", &[]);
    let (two, _) = shard(&job, "2/2", &[]);
    let both = [one.clone(), two];
    assert_eq!(merge(&job, &both).0, Some(0));
    // Restarted and killed: there is a journal and the old output, and no manifest.
    fs::write(job.input(), many(2000).join(&b'\n')).unwrap();
    let mut command = tulu_quant();
    command.arg("batch").arg(demo_model()).arg("-i").arg(job.input()).arg("-o").arg(&one);
    command.args(["-c", "512", "-t", "1", "-np", "1", "--shard", "1/2", "--force"]);
    let journal = PathBuf::from(format!("{}.journal", one.display()));
    let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    while fs::metadata(&journal).map_or(0, |about| about.len()) < 3000 {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let (code, last) = merge(&job, &both);
    assert!(code == Some(2) && last.contains("error[PART_UNFINISHED]") && last.contains("part-1-2"), "{last}");
    assert!(!PathBuf::from(format!("{}.manifest.json", one.display())).exists());
}

#[test]
fn shards_with_other_context_sizes_are_not_merged() {
    let job = Job::new(&many(4));
    let (one, _) = shard(&job, "1/2", &[]);
    let (two, _) = shard(&job, "2/2", &[]);
    let path = format!("{}.manifest.json", two.display());
    let of = |window: Value, version: u64| {
        let mut about = manifest(&two);
        (about["window"], about["tulu_quant_manifest"]) = (window, json!(version));
        fs::write(&path, about.to_string()).unwrap();
        merge(&job, &[one.clone(), two.clone()])
    };
    let (code, last) = of(json!(256), 2);
    assert!(code == Some(2) && last.contains("error[PART_MISMATCH]") && last.contains("context size differ"), "{last}");
    let (code, last) = of(Value::Null, 1);
    assert!(code == Some(2) && last.contains("error[MANIFEST]") && last.contains("is of version 1"), "{last}");
    let (code, last) = of(json!("wide"), 2);
    assert!(code == Some(2) && last.contains("error[MANIFEST]") && last.contains("is damaged"), "{last}");
    assert_eq!(of(json!(512), 2).0, Some(0));
}

#[test]
fn slots_count_the_choices_and_prompts_of_a_record() {
    let slots = |lines: &[Vec<u8>], flags: &[&str]| {
        let job = Job::new(lines);
        assert_eq!(job.run(flags).0, Some(0));
        let engine = manifest(&job.output())["last_run"]["engine"].clone();
        (engine["slots"].as_u64().unwrap(), engine["kv_tokens"].as_u64().unwrap())
    };
    let prompts = json!({"custom_id": "t", "url": "/v1/completions", "body": {
        "prompt": ["a", "b", "c"], "n": 2, "max_tokens": 2}});
    assert_eq!(slots(&[prompts.to_string().into_bytes()], &[]).0, 6);
    assert!(slots(&[chat("a", "Hello", &json!({"n": 16, "max_tokens": 2, "temperature": 1}))], &[]).0 >= 16);
    assert_eq!(slots(&[chat("a", "Hello", &json!({}))], &[]).0, 1);
    assert_eq!(slots(&many(3), &["--num-choices", "2"]).0, 6);
    // The KV cache is as large as the records need; without a limit of tokens it has all of the context.
    assert_eq!(slots(&many(40), &["-np", "16"]), (16, 2304));
    let endless = |i: usize| chat(&format!("r{i}"), "Hello", &json!({"max_tokens": null, "stop": " "}));
    let all: Vec<Vec<u8>> = (0..40).map(endless).collect();
    assert_eq!(slots(&all, &["-np", "16"]), (16, 16 * 512));
}

#[test]
fn flags_are_defaults_for_records() {
    let job = Job::new(&[
        chat("flag", "What is the capital of France?", &json!({"max_tokens": 16})),
        chat("own", "What is the capital of France?", &json!({"max_tokens": 16, "stop": " capital"})),
    ]);
    assert_eq!(job.run(&["--stop", " Paris", "--stop", " France"]).0, Some(0));
    let text = |i: usize| job.records()[i]["response"]["body"]["choices"][0]["message"]["content"].clone();
    assert_eq!((text(0), text(1)), (json!("The capital of"), json!("The")));
    assert_eq!(manifest(&job.output())["parameters"]["stop"], json!([" Paris", " France"]));
    let (code, last) = job.run(&["--force", "--presence-penalty", "3"]);
    assert!(code == Some(2) && last.contains("error[SAMPLING]") && last.contains("presence_penalty"), "{last}");
    let (code, last) = job.run(&["--force", "--repetition-penalty", "0"]);
    assert!(code == Some(2) && last.contains("error[SAMPLING]"), "{last}");
    let (code, last) = job.run(&["--force", "--repetition-penalty", "1.1", "--repeat-penalty", "1.1"]);
    assert!(code == Some(2) && last.contains("error[USAGE]"), "{last}");
    // A flag does the same as a field of the record.
    let answers = |extra: &Value, flags: &[&str]| {
        let lines: Vec<Vec<u8>> = (0..4)
            .map(|i| {
                let mut extra = extra.clone();
                extra["max_tokens"] = json!(30);
                chat(&format!("r{i}"), &format!("Tell me a story about {i}."), &extra)
            })
            .collect();
        let job = Job::new(&lines);
        assert_eq!(job.run(&[&["-np", "1"], flags].concat()).0, Some(0));
        job.records().iter().map(|record| record["response"]["body"]["choices"].clone()).collect::<Vec<_>>()
    };
    let plain = answers(&json!({}), &[]);
    for (field, flag) in [
        ("repetition_penalty", "--repetition-penalty"),
        ("presence_penalty", "--presence-penalty"),
        ("frequency_penalty", "--frequency-penalty"),
    ] {
        let by_record = answers(&json!({field: 1.5}), &[]);
        assert_eq!(by_record, answers(&json!({}), &[flag, "1.5"]), "{field}");
        assert_ne!(by_record, plain, "{field}");
    }
}

#[test]
fn cached_tokens_never_exceed_prompt_tokens() {
    let job = Job::new(&[chat("a", "What is the capital of France?", &json!({"n": 8, "temperature": 1.0}))]);
    let done = run(&mut job.command(&["--json", "-np", "1"]), b"");
    let summary: Value = serde_json::from_slice(&done.stdout).unwrap();
    let number = |name: &str| summary[name].as_u64().unwrap();
    assert!(number("cached_tokens") <= number("prompt_tokens"), "{summary}");
    assert!(stderr(&done).contains("note: 1 records ask for another model, such as 'any'; "), "{}", stderr(&done));
    assert!(stderr(&done).contains("note: 1 of 1 records have an answer that was cut off"), "{}", stderr(&done));
}
