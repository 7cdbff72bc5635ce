//! `tulu-quant batch` on several machines: merged shards equal one run, and `batch merge` refuses files that do not
//! match.

use crate::support::batch::{Job, chat, expected_ids, ids, many};
use crate::support::{demo_model, last_line, run, tulu_quant};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Runs one shard. Returns its output.
fn shard(job: &Job, which: &str, output: &str, flags: &[&str]) -> PathBuf {
    let mut command = command(job, output, flags);
    let done = run(command.args(["--shard", which]), b"");
    assert!(matches!(done.status.code(), Some(0 | 1)), "{}", last_line(&done));
    job.folder.path().join(output.replace("{shard}", &tag(which)))
}

fn tag(which: &str) -> String {
    let (index, count) = which.split_once('/').unwrap();
    format!("{index:0>5}-of-{count:0>5}")
}

fn command(job: &Job, output: &str, flags: &[&str]) -> Command {
    let mut command = tulu_quant();
    command.arg("batch").arg(demo_model()).arg("-i").arg(job.input()).arg("-o").arg(job.folder.path().join(output));
    command.args(["-c", "512", "-t", "1", "-np", "1"]).args(flags).env("SOURCE_DATE_EPOCH", "0");
    command
}

fn merge(job: &Job, parts: &[PathBuf], flags: &[&str]) -> (Option<i32>, String, String) {
    let mut command = tulu_quant();
    command.args(["batch", "merge", "-o"]).arg(job.folder.path().join("merged")).args(flags).args(parts);
    let done = run(&mut command, b"");
    (done.status.code(), last_line(&done), String::from_utf8(done.stdout).unwrap())
}

/// The output of one run, and that of three merged shards.
fn both_ways(job: &Job, flags: &[&str]) -> (Vec<u8>, Vec<u8>) {
    let done = run(&mut command(job, "whole", flags), b"");
    assert!(matches!(done.status.code(), Some(0 | 1)), "{}", last_line(&done));
    let parts: Vec<PathBuf> = ["2/3", "3/3", "1/3"].map(|which| shard(job, which, "part-{shard}", flags)).into();
    let (code, last, summary) = merge(job, &parts, &["--json"]);
    assert_eq!(code, done.status.code(), "{last}");
    let summary: Value = serde_json::from_str(&summary).unwrap();
    assert_eq!(summary["shards"], 3);
    let manifest = |name: &str| -> Value {
        serde_json::from_slice(&fs::read(job.folder.path().join(format!("{name}.manifest.json"))).unwrap()).unwrap()
    };
    let (whole, merged) = (manifest("whole"), manifest("merged"));
    for field in ["format", "shard", "parameters", "tokens", "model", "window"] {
        assert_eq!(whole[field], merged[field], "{field}");
    }
    for field in ["sha256", "records", "failed"] {
        assert_eq!(whole["output"][field], merged["output"][field], "{field}");
    }
    let file = |name: &str| fs::read(job.folder.path().join(name)).unwrap();
    let errors = |name: &str| fs::read(job.folder.path().join(format!("{name}.errors"))).ok();
    assert_eq!(errors("whole"), errors("merged"));
    (file("whole"), file("merged"))
}

#[test]
fn merged_shards_equal_one_run() {
    let mut lines = many(11);
    lines[4] = b"broken".to_vec();
    lines[6] = many(1).remove(0);
    let (whole, merged) = both_ways(&Job::new(&lines), &[]);
    assert_eq!(String::from_utf8(whole).unwrap(), String::from_utf8(merged).unwrap());

    let alpaca: Vec<Value> = (0..8)
        .map(|i| {
            if i == 3 { json!({"instruction": 3}) } else { json!({"instruction": format!("Say {i}"), "dataset": "x"}) }
        })
        .collect();
    let (whole, merged) =
        both_ways(&Job::new(&[json!(alpaca).to_string().into_bytes()]), &["-n", "6", "--format", "alpaca-eval"]);
    assert_eq!(String::from_utf8(whole).unwrap(), String::from_utf8(merged).unwrap());

    let questions: Vec<Vec<u8>> = [9, 3, 7, 1, 8]
        .iter()
        .map(|id| json!({"question_id": id, "category": "writing", "turns": ["Hi", if *id == 7 { json!(7) } else { json!("Bye") }]}))
        .map(|question| question.to_string().into_bytes())
        .collect();
    let (whole, merged) = both_ways(&Job::new(&questions), &["-n", "6"]);
    assert_eq!(String::from_utf8(whole).unwrap(), String::from_utf8(merged).unwrap());
}

#[test]
fn empty_shard_is_no_error() {
    let job = Job::new(&many(2));
    let parts: Vec<PathBuf> = ["1/3", "2/3", "3/3"].map(|which| shard(&job, which, "part-{shard}", &[])).into();
    assert_eq!(fs::read(&parts[2]).unwrap(), b"");
    assert_eq!(merge(&job, &parts, &[]).0, Some(0));
}

#[test]
fn shards_that_do_not_match_are_refused() {
    let job = Job::new(&many(6));
    let one = shard(&job, "1/2", "one", &[]);
    let two = shard(&job, "2/2", "two", &[]);
    let refused = |parts: &[&PathBuf], code: &str, what: &str| {
        let parts: Vec<PathBuf> = parts.iter().map(|part| (*part).clone()).collect();
        let (exit, last, _) = merge(&job, &parts, &[]);
        assert!(exit == Some(2) && last.contains(code) && last.contains(what), "{last}");
        assert!(!job.folder.path().join("merged").exists());
    };
    refused(&[&one], "error[PART_MISSING]", "shard 2 of 2 is missing");
    refused(&[&two], "error[PART_MISSING]", "shard 1 of 2 is missing");
    refused(&[&one, &two, &one], "error[PART_DOUBLE]", "duplicate of shard 1/2");
    let other = shard(&job, "2/2", "other", &["--temp", "0.5"]);
    refused(&[&one, &other], "error[PART_MISMATCH]", "parameters differ");
    let third = shard(&job, "2/3", "third", &[]);
    refused(&[&one, &third], "error[PART_MISMATCH]", "number of shards differ");
    let whole = job.folder.path().join("out.jsonl");
    assert_eq!(job.run(&[]).0, Some(0));
    refused(&[&one, &whole], "error[PART]", "without --shard");
    refused(&[&one, &job.input()], "error[IO]", "in.jsonl.manifest.json");

    // A shard that was changed, cut or extended later.
    let bytes = fs::read(&two).unwrap();
    let text = String::from_utf8(bytes.clone()).unwrap();
    let cut: String = text.split_inclusive('\n').take(2).collect();
    for changed in [text.replace("assistant", "user"), cut, text.repeat(2), String::new()] {
        fs::write(&two, changed).unwrap();
        refused(&[&one, &two], "error[PART_CHANGED]", "two");
    }
    fs::write(&two, bytes).unwrap();
    let both = [one.clone(), two.clone()];
    assert_eq!(merge(&job, &both, &[]).0, Some(0));
    let (code, last, _) = merge(&job, &both, &[]);
    assert!(code == Some(2) && last.contains("error[OUTPUT_EXISTS]"), "{last}");
    assert_eq!(merge(&job, &both, &["--force"]).0, Some(0));

    // A shard that was interrupted has a journal and no output.
    for _ in 0..50 {
        let mut child = job.start_until(1, &["--shard", "1/2", "--force"]);
        let _ = child.kill();
        child.wait().unwrap();
        // A run that ended before the signal has no journal.
        if job.journal().exists() {
            break;
        }
    }
    let _ = fs::remove_file(job.output());
    let (code, last, _) = merge(&job, &[job.output(), two], &["--force"]);
    assert!(code == Some(2) && last.contains("error[PART_UNFINISHED]"), "{last}");
}

#[test]
fn shard_number_is_read_from_the_environment() {
    let job = Job::new(&many(5));
    let numbers = |variables: &[(&str, &str)], which: &str| {
        let mut command = command(&job, "part-{shard}", &["--shard", which]);
        let done = run(command.envs(variables.iter().copied()), b"");
        (done.status.code(), last_line(&done))
    };
    let slurm = [
        ("SLURM_ARRAY_TASK_ID", "2"),
        ("SLURM_ARRAY_TASK_MIN", "1"),
        ("SLURM_ARRAY_TASK_MAX", "2"),
        ("SLURM_ARRAY_TASK_COUNT", "2"),
    ];
    assert_eq!(numbers(&slurm, "auto").0, Some(0));
    let ids_of = |output: &str| {
        let text = fs::read_to_string(job.folder.path().join(output)).unwrap();
        ids(&text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>())
    };
    assert_eq!(ids_of("part-00002-of-00002"), ["r1", "r3"]);
    assert_eq!(numbers(&[("JOB_COMPLETION_INDEX", "0")], "auto/2").0, Some(0));
    assert_eq!(ids_of("part-00001-of-00002"), ["r0", "r2", "r4"]);
    let (code, last) = numbers(&[], "auto");
    assert!(code == Some(2) && last.contains("error[SHARD]"), "{last}");
    // Without the flag the variables have no effect.
    let done = run(command(&job, "all", &[]).envs(slurm), b"");
    assert_eq!(done.status.code(), Some(0));
    assert_eq!(ids_of("all"), expected_ids(5));
}

#[test]
fn shard_reports_an_id_of_another_shard_as_duplicate() {
    let lines = [chat("a", "Hello", &json!({})), chat("b", "Hello", &json!({})), chat("a", "Bye", &json!({}))];
    let job = Job::new(&lines);
    let part = shard(&job, "3/3", "part", &[]);
    let record: Value = serde_json::from_slice(&fs::read(part).unwrap()).unwrap();
    assert_eq!(record["error"]["code"], "duplicate_custom_id");
}
