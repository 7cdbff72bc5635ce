//! What a user sees while `tulu-quant batch` runs on a terminal.
#![allow(clippy::unwrap_used)]

mod support;

use rexpect::session::spawn_command;
use serde_json::json;
use support::batch::{Job, chat};

#[test]
fn a_bar_shows_records_speeds_and_slots() {
    let lines: Vec<Vec<u8>> = (0..80)
        .map(|i| chat(&format!("r{i}"), &format!("Tell me a story about {i}."), &json!({"max_tokens": 64})))
        .collect();
    let job = Job::new(&lines);
    let mut command = job.command(&["-np", "2"]);
    command.env("TERM", "xterm").env("COLUMNS", "140");
    let mut session = spawn_command(command, Some(60_000)).unwrap();
    let (_, bar) =
        session.exp_regex(r"answering \[[=> ]+\] +[0-9]+% +[0-9]+/80 records .*tokens/s: .*slots: 2/2").unwrap();
    assert!(bar.contains(" left"), "the time left: {bar}");
    assert!(bar.contains(" in, ") && bar.contains(" out"), "{bar}");
    session.exp_string("80 records: 80 answered, 0 failed (0 from an earlier run).").unwrap();
    session.exp_eof().unwrap();
}
