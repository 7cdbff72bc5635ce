//! `chat` when the conversation no longer fits the context.

use crate::support::chat::{chat, home, leave, on_terminal, on_terminal_at};
use crate::support::{last_line, run};
use std::fs;

#[test]
fn oldest_turns_are_dropped_when_the_context_is_full() {
    let (_folder, mut terminal) = on_terminal(&["--temp", "0", "-c", "256", "-n", "32", "--system", "Be brief."]);
    let mut told = String::new();
    for turn in 0..12 {
        told = terminal.line(&format!("Question {turn}: what is the capital of France, and what of Italy?"));
        assert!(!told.contains("no longer fits"), "{told}");
        if told.contains("oldest turn") {
            assert!(turn > 1);
            break;
        }
    }
    assert!(told.contains("is full: dropped the "), "{}", terminal.screen());
    let prompt = terminal.line("/show prompt");
    let sent = &prompt[prompt.find("<|system|>").unwrap()..];
    assert!(sent.starts_with("<|system|>\r\nBe brief.\r\n<|user|>\r\nQuestion "), "{sent}");
    assert!(!sent.contains("Question 0:"), "{sent}");
    assert!(terminal.line("/show info").contains("not sent"));
    // The exported conversation is complete.
    assert!(terminal.line("/export all.md").contains("written"));
    let alone = terminal.line(&"word ".repeat(400));
    assert!(alone.contains("the message alone makes a prompt of"), "{alone}");
    assert!(alone.contains("the context size is 256"), "{alone}");
    let whole = fs::read_to_string(_folder.path().join("all.md")).unwrap();
    assert!(whole.contains("Question 0:"), "{whole}");
    leave(terminal);

    let (_folder, mut terminal) = on_terminal(&["--temp", "0", "-c", "256", "-n", "32", "--on-overflow", "error"]);
    let refused =
        (0..20).any(|_| terminal.line("What is the capital of France, and what of Italy?").contains("no longer fits"));
    assert!(refused, "{}", terminal.screen());
    leave(terminal);
}

#[test]
fn overflow_counts_all_dropped_turns() {
    let folder = home();
    let mut terminal = on_terminal_at(&folder, &["-c", "256", "-n", "16"]);
    let mut counts = Vec::new();
    for turn in 0..24 {
        let said = terminal.line(&format!("Question {turn}: what is the capital of France, and what of Italy?"));
        if let Some((_, rest)) = said.split_once("is full: dropped the ") {
            counts.push(rest.split(' ').next().unwrap().parse::<usize>().unwrap());
            let info = terminal.line("/show info");
            assert!(info.contains(&format!("the {} oldest turn", counts[counts.len() - 1])), "{counts:?}: {info}");
        }
    }
    assert!(counts.len() > 1 && counts.is_sorted(), "{counts:?}");
    leave(terminal);
}

#[test]
fn repeated_p_drops_turns_only_on_request() {
    let question = "What is the capital of France, and what of Italy, and what would you see in either of them?";
    let args: Vec<&str> =
        (0..8).flat_map(|_| ["-p", question]).chain(["-c", "256", "-n", "40", "--temp", "0"]).collect();
    let output = run(&mut chat(&args), b"");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(last_line(&output).contains("error[CONTEXT_LENGTH]"), "{}", last_line(&output));
    let output = run(chat(&args).args(["--on-overflow", "drop-oldest"]), b"");
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("is full: dropped the "), "{output:?}");
}
