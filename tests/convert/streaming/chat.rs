//! `chat` with the name of a repository streams the model: its cached file is the one that `convert` makes.

use super::{Case, ID, claimed, disk_used, names, outputs};
use crate::support::hub::Fault;
use crate::support::run;
use std::fs;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// `chat` with the name of the repository.
fn chat(case: &Case) -> Command {
    let mut command = case.hub.command();
    command.args(["chat", ID, "-p", "What is the capital of France?", "--temp", "0"]);
    command
}

/// Asserts that it answers, that the cached file is that of `convert`, and that no partial file or weights are left.
fn answers(case: &Case, output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("Paris"), "{output:?}");
    let commit = case.hub.commit(ID);
    let kept = outputs(&case.hub.dir().join("cache/hub/allenai--tulu-tiny").join(commit));
    assert_eq!(names(&kept), ["tulu-tiny-Q4_K_M.gguf"]);
    let (_, wanted) = case.wanted.iter().find(|(name, _)| name == "tulu-tiny-Q4_K_M.gguf").unwrap();
    assert!(kept[0].1 == *wanted, "the file differs from that of convert");
    assert!(disk_used(case.hub.dir()) < case.total / 4, "the weights are in the cache");
    case.is_clean(output);
}

#[test]
fn chat_answers_despite_faults_at_every_stage() {
    let case = Case::tiny();
    for part in ["api/models", "config.json", "tokenizer.model", "model-00001", "model-00002"] {
        case.hub.fault(Fault::on(part).times(1).status(503));
        case.hub.fault(Fault::on(part).times(1).cut_after(10));
    }
    let output = run(&mut chat(&case), b"");
    answers(&case, &output);
    case.served();
    let again = run(&mut chat(&case), b"");
    answers(&case, &again);
    assert_eq!(case.hub.requests().len(), 0, "the second time it starts at once");
}

fn chat_kills(number: u32) {
    let case = Case::tiny();
    for kill in 0..number {
        drop(fs::remove_dir_all(case.hub.dir().join("cache")));
        drop(fs::remove_dir_all(case.hub.dir().join("hub")));
        case.hub.fault(Fault::on("").stall(Duration::from_millis(25)));
        // at moments from the listing to the answer
        let moment = Duration::from_millis(u64::from(kill) * 1500 / u64::from(number));
        let mut child = chat(&case).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(moment);
        child.kill().unwrap();
        child.wait().unwrap();
        let made = case.hub.dir().join("cache/hub/allenai--tulu-tiny").join(case.hub.commit(ID));
        let claims = claimed(&made);
        case.served();
        let output = run(&mut chat(&case), b"");
        answers(&case, &output);
        let served = case.served();
        assert!(served <= case.total - claims + case.around, "after {moment:?}: {served} served, {claims} were done");
    }
}

#[test]
fn chat_resumes_after_kill() {
    chat_kills(4);
}

#[test]
#[ignore = "long: a minute and more"]
fn long_chat_resumes_after_thirty_kills() {
    chat_kills(30);
}
