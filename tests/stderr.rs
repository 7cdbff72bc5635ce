//! What the program does when nobody reads its stderr: the work is done and the exit code is the usual one.

#![cfg(unix)]
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod support;

use std::fs;
use std::process::{Command, Stdio};
use support::{demo_model, tulu_quant};

/// Runs `command` with a stderr whose reader is gone, and gives the exit code.
fn without_stderr(command: &mut Command) -> Option<i32> {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(writer).status().unwrap().code()
}

#[test]
fn a_closed_stderr_changes_no_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoint = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tulu-tiny");
    let (source, model) = (checkpoint.to_str().unwrap(), demo_model().to_str().unwrap());
    let records = dir.path().join("in.txt");
    fs::write(&records, "Hello\nWhat is the capital of France?\n").unwrap();
    let (records, out) = (records.to_str().unwrap(), dir.path().join("out.jsonl"));
    let gguf = dir.path().join("m.gguf");
    let cases: &[(&[&str], i32)] = &[
        (&["convert", source, "-q", "Q8_0", "-o", gguf.to_str().unwrap()], 0),
        (&["convert", source, "-q", "NOTHING"], 2),
        (&["batch", model, "-i", records, "-o", out.to_str().unwrap(), "--format", "text", "-n", "3"], 0),
        (&["chat", model, "-p", "Hello", "-n", "3"], 0),
        (&["chat", "nothing"], 2),
        (&["chat", "--nonsense"], 2),
        (&["verify", model], 0),
        (&["inspect", "nothing.gguf"], 2),
        (&["--error-format", "json", "verify", "nothing.gguf"], 2),
        (&["bench", model, "-p", "4", "-n", "1", "-r", "1"], 0),
        (&["models"], 0),
    ];
    for (args, exit) in cases {
        assert_eq!(without_stderr(tulu_quant().args(*args).env("HF_HOME", dir.path())), Some(*exit), "{args:?}");
    }
    assert_eq!(fs::read_to_string(&out).unwrap().lines().count(), 2, "the output is complete");
    assert!(fs::metadata(&gguf).unwrap().len() > 5_000_000);
}
