//! Closed and full stderr and stdout: the work is done, and the exit code is right.

#![cfg(unix)]

use crate::support::checkpoint::bundled;
use crate::support::{demo_model, tulu_quant};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs `command` with a stderr whose reader has closed it. Returns the exit code.
fn without_stderr(command: &mut Command) -> Option<i32> {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    command.stderr(writer).status().unwrap().code()
}

/// Every subcommand with arguments that succeed and that fail, with the exit code. `dir` is a folder to write to.
fn runs(dir: &Path) -> Vec<(Vec<String>, i32)> {
    let checkpoint = bundled();
    let (source, model) = (checkpoint.to_str().unwrap(), demo_model().to_str().unwrap());
    let [records, messages, out, gguf] = ["in.txt", "in.json", "out.jsonl", "m.gguf"].map(|name| dir.join(name));
    fs::write(&records, "Hello\nWhat is the capital of France?\n").unwrap();
    fs::write(&messages, r#"[{"role": "user", "content": "Hello"}]"#).unwrap();
    let [records, messages, out, gguf] = [&records, &messages, &out, &gguf].map(|path| path.to_str().unwrap());
    let man = dir.join("man");
    let cases: &[(&[&str], i32)] = &[
        (&[], 2),
        (&["--help"], 0),
        (&["--version"], 0),
        (&["version"], 0),
        (&["nonsense"], 2),
        (&["convert", source, "-q", "Q8_0", "-o", gguf, "--force"], 0),
        (&["convert", source, "-q", "Q8_0", "--dry-run"], 0),
        (&["convert", source, "-q", "NOTHING"], 2),
        (&["batch", model, "-i", records, "-o", out, "--format", "text", "-n", "3", "--restart", "--force"], 0),
        (&["batch", model, "-i", "nothing", "-o", out], 2),
        (&["batch", "merge", "-o", out, "nothing"], 2),
        (&["chat", model, "-p", "Hello", "-n", "3"], 0),
        (&["chat", model, "-p", "Hello", "-n", "3", "--json"], 0),
        (&["chat", "nothing"], 2),
        (&["chat", "--nonsense"], 2),
        (&["prompt", model, "-i", messages], 0),
        (&["prompt", model, "-i", "nothing"], 2),
        (&["verify", model], 0),
        (&["verify", model, "--against", source], 0),
        (&["inspect", model], 0),
        (&["inspect", "nothing.gguf"], 2),
        (&["--error-format", "json", "verify", "nothing.gguf"], 2),
        (&["bench", model, "-p", "4", "-n", "1", "-r", "1"], 0),
        (&["models"], 0),
        (&["models", "--json"], 0),
        (&["pull", "nothing"], 2),
        (&["doctor"], 0),
        (&["completions", "bash"], 0),
        (&["man", "chat"], 0),
        (&["man", "nothing"], 2),
        (&["man", "--dir", man.to_str().unwrap()], 0),
    ];
    cases.iter().map(|(args, exit)| (args.iter().map(|arg| (*arg).to_owned()).collect(), *exit)).collect()
}

fn program(args: &[String], dir: &Path) -> Command {
    let mut command = tulu_quant();
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null());
    command.env("HF_HOME", dir).env("TULU_QUANT_CACHE", dir.join("cache")).current_dir(dir);
    command
}

#[test]
fn closed_stderr_changes_no_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    for (args, exit) in runs(dir.path()) {
        assert_eq!(without_stderr(&mut program(&args, dir.path())), Some(exit), "{args:?}");
    }
    let text = fs::read_to_string(dir.path().join("out.jsonl")).unwrap();
    let records = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let prompts: Vec<_> = records.map(|record| record["prompt"].clone()).collect();
    assert_eq!(prompts, ["Hello", "What is the capital of France?"], "the output is complete");
    assert!(fs::read(dir.path().join("m.gguf")).unwrap() == fs::read(demo_model()).unwrap());
}

#[test]
#[cfg(target_os = "linux")]
fn full_stderr_changes_no_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    for (args, exit) in runs(dir.path()) {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let status = program(&args, dir.path()).stderr(full).status().unwrap();
        assert_eq!(status.code(), Some(exit), "{args:?}");
    }
}

/// `2>&1 | head -1`: one pipe for both, whose reader leaves after one line.
#[test]
fn reader_that_leaves_after_one_line_changes_no_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    for (args, exit) in runs(dir.path()) {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = program(&args, dir.path());
        command.stdout(writer.try_clone().unwrap()).stderr(writer);
        let mut child = command.spawn().unwrap();
        // The command has a copy of the writing end.
        drop(command);
        let mut line = String::new();
        BufReader::with_capacity(1, reader).read_line(&mut line).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(exit), "{args:?}");
    }
}

/// A full stdout is reported as such, and not as an error of the input.
#[test]
#[cfg(target_os = "linux")]
fn full_stdout_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    for (args, exit) in runs(dir.path()) {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = program(&args, dir.path()).stdout(full).stderr(Stdio::piped()).output().unwrap();
        let last = crate::support::last_line(&output);
        let silent = [Some("batch"), Some("pull")].contains(&args.first().map(String::as_str))
            || args.contains(&"--dir".to_owned())
            || args[..].first().is_some_and(|verb| verb == "convert") && !args.contains(&"--dry-run".to_owned());
        if exit == 0 && !silent {
            assert_eq!(output.status.code(), Some(3), "{args:?}: {last}");
            assert!(last.contains("No space left on device") && !last.contains("in.json"), "{args:?}: {last}");
        } else {
            assert_ne!(output.status.code(), Some(101), "{args:?}: {last}");
        }
    }
}
