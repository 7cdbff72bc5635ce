//! The progress bar of `tulu-quant batch` on a terminal.

use crate::support::batch::{Job, chat};
use rexpect::session::spawn_command;
use serde_json::json;

#[test]
fn bar_shows_records_speeds_slots_and_time_left() {
    let ask = |i| chat(&format!("r{i}"), &format!("Tell me a story about {i}."), &json!({"max_tokens": 64}));
    let lines: Vec<Vec<u8>> = (0..40).map(ask).collect();
    let job = Job::new(&lines);
    let mut command = job.command(&["-np", "2"]);
    command.env("TERM", "xterm");
    let mut session = spawn_command(command, Some(60_000)).unwrap();
    let bar = r"records \[[=> ]+\] [0-9]+/40  [0-9]+[sm] left  in [0-9]+, out [0-9]+ tokens/s, slots 2/2";
    session.exp_regex(bar).unwrap();
    session.exp_string("40 records: 40 answered, 0 failed.").unwrap();
    session.exp_eof().unwrap();
}
