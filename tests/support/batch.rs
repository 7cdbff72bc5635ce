//! A batch job for tests: a folder with an input, and the output next to it.

use super::{demo_model, last_line, run, tulu_quant};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A folder with an input, its output and its journal.
pub(crate) struct Job {
    pub(crate) folder: TempDir,
}

impl Job {
    /// Creates a job whose input has these lines.
    pub(crate) fn new(lines: &[Vec<u8>]) -> Self {
        let job = Self { folder: tempfile::tempdir().unwrap() };
        fs::write(job.input(), lines.join(&b'\n')).unwrap();
        job
    }

    /// The input file.
    pub(crate) fn input(&self) -> PathBuf {
        self.folder.path().join("in.jsonl")
    }

    /// The output file.
    pub(crate) fn output(&self) -> PathBuf {
        self.folder.path().join("out.jsonl")
    }

    /// Returns the path of the journal next to the output.
    pub(crate) fn journal(&self) -> PathBuf {
        self.folder.path().join("out.jsonl.journal")
    }

    /// Returns the command `batch` with the bundled model on one thread, with a context of 512 tokens unless `flags`
    /// set another.
    pub(crate) fn command(&self, flags: &[&str]) -> Command {
        let mut command = tulu_quant();
        command.arg("batch").arg(demo_model()).arg("-i").arg(self.input()).arg("-o").arg(self.output());
        if !flags.contains(&"-c") {
            command.args(["-c", "512"]);
        }
        command.args(["-t", "1"]).args(flags);
        command
    }

    /// Runs to the end. Returns the exit code and the last line of stderr.
    pub(crate) fn run(&self, flags: &[&str]) -> (Option<i32>, String) {
        let output = run(&mut self.command(flags), b"");
        (output.status.code(), last_line(&output))
    }

    /// The records of the output.
    pub(crate) fn records(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.output()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Complete records of the journal.
    pub(crate) fn journaled(&self) -> Vec<String> {
        let bytes = fs::read(self.journal()).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        text.split_inclusive('\n')
            .skip(1)
            .filter(|line| line.ends_with('\n'))
            .map(|line| line.trim_end().splitn(4, '\t').nth(3).unwrap().to_owned())
            .collect()
    }

    /// Starts a run and waits until the journal has `n` more records.
    pub(crate) fn start_until(&self, n: usize, flags: &[&str]) -> Child {
        let before = self.journaled().len();
        let mut child = self.command(flags).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.journaled().len() < before + n && child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "no record came");
            std::thread::sleep(Duration::from_millis(2));
        }
        child
    }
}

/// An OpenAI chat line with at most 8 tokens of answer; `extra` is merged into its body.
pub(crate) fn chat(id: &str, content: &str, extra: &Value) -> Vec<u8> {
    let mut body = json!({"model": "any", "messages": [{"role": "user", "content": content}], "max_tokens": 8});
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    json!({"custom_id": id, "method": "POST", "url": "/v1/chat/completions", "body": body}).to_string().into_bytes()
}

/// `n` chat lines with the ids r0, r1, ...
pub(crate) fn many(n: usize) -> Vec<Vec<u8>> {
    (0..n).map(|i| chat(&format!("r{i}"), &format!("What is {i} and {}?", i + 1), &json!({"max_tokens": 24}))).collect()
}

/// Returns the custom_id of each record; empty for a record without one.
pub(crate) fn ids(records: &[Value]) -> Vec<String> {
    records.iter().map(|record| record["custom_id"].as_str().unwrap_or_default().to_owned()).collect()
}

/// The ids of [`many`].
pub(crate) fn expected_ids(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("r{i}")).collect()
}

/// Sends the signal with this name, such as KILL.
pub(crate) fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status().unwrap().success());
}
