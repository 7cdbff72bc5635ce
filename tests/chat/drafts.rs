//! Drafts in `chat`: the same conversation with and without guessed tokens.

use crate::support::chat::{chat, chat_in, leave};
use crate::support::screen::Terminal;
use crate::support::{assert_success, demo_f32, run};
use serde_json::Value;

/// The story is told twice, so the second time it is guessed from the first.
const TURNS: [&str; 3] =
    ["Tell me a story about a cat called Luna.", "Thanks!", "Tell me a story about a cat called Luna."];

fn flags(more: &[&str]) -> Vec<String> {
    let model = demo_f32().display().to_string();
    let greedy: &[&str] = if more.contains(&"--temp") { &[] } else { &["--temp", "0"] };
    let usual = [&[model.as_str(), "-ctk", "f32", "-ctv", "f32"], greedy].concat();
    usual.iter().chain(more).map(|flag| (*flag).to_owned()).collect()
}

/// The answers of one conversation, as JSON.
fn said(turns: &[&str], more: &[&str]) -> Vec<Value> {
    let mut args = flags(&[&["--json"], more].concat());
    args.extend(turns.iter().flat_map(|turn| ["-p".to_owned(), (*turn).to_owned()]));
    let mut command = chat(&args.iter().map(String::as_str).collect::<Vec<_>>());
    if !more.contains(&"--no-draft") {
        // Guess always, so that the test does not depend on measured times.
        command.env("TULU_QUANT_DRAFT_N", "4");
    }
    let output = run(&mut command, b"");
    assert_success(&output);
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn answers_and_counts_are_the_same_with_and_without_drafts() {
    let endings: [&[&str]; 6] = [
        &[],
        &["-n", "31"],
        &["--stop", "lived"],
        &["-c", "256", "--on-overflow", "drop-oldest", "-n", "-1"],
        &["--temp", "0.9", "-s", "3"],
        &["--repeat-penalty", "1.1", "--presence-penalty", "0.2"],
    ];
    let mut accepted = 0;
    for more in endings {
        let (with, without) = (said(&TURNS, more), said(&TURNS, &[more, &["--no-draft"]].concat()));
        assert_eq!(with.len(), TURNS.len());
        for (with, without) in with.iter().zip(&without) {
            for field in ["text", "finish_reason", "usage"] {
                assert_eq!(with[field], without[field], "{more:?}");
            }
            assert_eq!(without["drafts"]["drafted"], 0);
            accepted += with["drafts"]["accepted"].as_u64().unwrap();
        }
    }
    assert!(accepted > 0, "nothing was guessed, so the test tests nothing");
}

#[test]
fn undo_after_a_draft_is_the_same_as_without() {
    let screen = |more: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        let args = flags(&[&["-n", "40"], more].concat());
        let mut command = chat_in(folder.path(), &args.iter().map(String::as_str).collect::<Vec<_>>());
        if more.is_empty() {
            command.env("TULU_QUANT_DRAFT_N", "4");
        }
        let mut terminal = Terminal::chat(command, 40, 100);
        for line in [TURNS[0], TURNS[0], "/undo", TURNS[0], "/regen", "/undo", "/undo", "What is the capital of Italy?"]
        {
            terminal.line(line);
        }
        let text = terminal.screen();
        leave(terminal);
        text
    };
    assert_eq!(screen(&[]), screen(&["--no-draft"]));
}

#[test]
fn ctrl_c_within_a_draft_keeps_what_was_said() {
    let start = |more: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        let args = flags(&[&["-n", "-1"], more].concat());
        let mut command = chat_in(folder.path(), &args.iter().map(String::as_str).collect::<Vec<_>>());
        if more.is_empty() {
            command.env("TULU_QUANT_DRAFT_N", "4");
        }
        (Terminal::chat(command, 40, 100), folder)
    };
    let (mut terminal, _folder) = start(&[]);
    let set_penalties = |terminal: &mut Terminal, value: &str| {
        terminal.line(&format!("/set frequency_penalty {value}"));
        terminal.line(&format!("/set presence_penalty {value}"));
    };
    terminal.line("Hello");
    // The answer repeats one word until the context is full, and nearly every pass accepts a whole draft.
    set_penalties(&mut terminal, "-2");
    let stopped = (0..50).any(|_| {
        let mark = terminal.raw.len();
        terminal.keys("Tell me a story.\r");
        terminal.cooked();
        let begun = terminal.raw.len();
        terminal.until("an answer", |terminal| terminal.raw.len() > begun + 40);
        terminal.keys("\x03");
        terminal.prompt_after(mark);
        let said = String::from_utf8_lossy(&terminal.raw[mark..]).contains("stopped");
        if !said {
            // The machine was so busy that the answer ended first.
            terminal.line("/undo");
        }
        said
    });
    assert!(stopped, "{}", terminal.screen());
    let prompt = terminal.line("/show prompt");
    assert!(prompt.contains("Once upon a time"), "what was said is kept: {prompt:?}");
    set_penalties(&mut terminal, "0");
    assert!(terminal.line("What is the capital of Italy?").len() > 40);
    terminal.line("/undo");
    terminal.line("/undo");
    let after = |terminal: &mut Terminal| {
        let text = terminal.line("What is the capital of Italy?");
        // After the answer the line editor starts again (bracketed paste), with as many bytes as were read by now.
        text.rsplit_once("Italy?").unwrap().1.split("\x1b[?2004h").next().unwrap().to_owned()
    };
    let answer = after(&mut terminal);
    leave(terminal);
    let (mut plain, _folder) = start(&["--no-draft"]);
    plain.line("Hello");
    assert_eq!(answer, after(&mut plain));
    assert!(answer.contains("Rome"), "{answer}");
    leave(plain);
}
