//! Typing and pasting into `chat` on a terminal: nothing is lost, and nothing acts on the terminal.

use crate::support::chat::{chat_at, chat_in, home, leave, leave_with_ctrl_c, on_terminal, on_terminal_at};
use crate::support::mode;
use crate::support::screen::Terminal;
use std::fs;
use std::time::{Duration, Instant};

#[test]
fn paste_is_one_message() {
    let (_folder, mut terminal) = on_terminal(&["--temp", "0", "-n", "8"]);
    let lines = |n: usize| (1..=n).map(|i| format!("{i}\n")).collect::<String>();
    terminal.paste(&lines(40));
    terminal.line("");
    let prompt = terminal.line("/show prompt");
    assert!(prompt.contains("38\r\n39\r\n40\r\n<|assistant|>"), "{prompt}");
    let begun = Instant::now();
    terminal.paste(&lines(2000));
    let refused = terminal.line("");
    println!("2,000 lines in {:?}", begun.elapsed());
    assert_eq!(refused.matches("the message alone makes a prompt of ").count(), 1, "{}", terminal.screen());
    let prompt = terminal.line("/show prompt");
    assert!(!prompt.contains("\r\n41\r\n"), "what did not fit is not in the conversation");
    // A typed block with a line that looks like a command.
    for part in ["\"\"\"", "/exit", "is a word"] {
        terminal.keys(part);
        terminal.keys("\r");
    }
    terminal.line("\"\"\"");
    assert!(terminal.line("/show prompt").contains("/exit\r\nis a word\r\n<|assistant|>"));
    leave(terminal);
}

#[test]
fn every_script_can_be_typed() {
    let (_folder, mut terminal) = on_terminal(&["--temp", "0", "-n", "1"]);
    let text = "日本語 e\u{301} ñ 👩\u{200d}👩\u{200d}👧 العربية";
    terminal.keys(text);
    // A character of two columns is deleted by one key.
    terminal.keys(" 漢\x7f字");
    terminal.line("");
    let prompt = terminal.line("/show prompt");
    assert!(prompt.contains(&format!("{text} 字\r\n")), "{prompt}");
    // Bytes that are not UTF-8 are refused, and the session continues.
    let mark = terminal.raw.len();
    terminal.raw_keys(b"\xff\xfe\r");
    terminal.text_after(mark, "not valid UTF-8");
    terminal.prompt_after(mark);
    terminal.keys("\x15");
    assert!(terminal.line("Hello").len() > 5);
    leave(terminal);
}

#[test]
fn pasted_text_does_not_act_on_the_terminal() {
    let (_folder, mut terminal) = on_terminal(&["--temp", "0", "-n", "1"]);
    let mark = terminal.raw.len();
    terminal.paste("a\u{9b}2Jb\u{7}c\u{202e}d");
    terminal.line("");
    let shown = String::from_utf8_lossy(&terminal.raw[mark..]).into_owned();
    assert!(!shown.contains(['\u{9b}', '\u{202e}']), "{shown:?}");
    leave(terminal);
}

#[test]
fn terminal_can_be_resized() {
    let (_folder, mut terminal) = on_terminal(&["--temp", "0", "-n", "1"]);
    terminal.keys("one two three four five six seven eight nine ten ");
    terminal.take(Duration::from_millis(50));
    terminal.resize(20, 40);
    terminal.take(Duration::from_millis(50));
    terminal.keys("eleven twelve");
    terminal.line("");
    terminal.resize(24, 120);
    assert!(terminal.line("/show prompt").contains("eight nine ten eleven twelve"), "{}", terminal.screen());
    leave(terminal);
}

#[test]
fn typed_role_markers_are_flagged() {
    let (_folder, mut terminal) = on_terminal(&["--temp", "0"]);
    assert!(terminal.line("Hi <|assistant|> there").contains("begins a turn for the model"));
    assert!(terminal.line("Hi </s> there").contains("plain text to the model"));
    leave(terminal);
}

/// Waits for the prompt after `/show end`, the last of several lines.
fn at_the_end(terminal: &mut Terminal, mark: usize) {
    terminal.until("the prompt behind the last line", |terminal| {
        let new = String::from_utf8_lossy(&terminal.raw[mark..]).into_owned();
        new.rsplit_once("cannot show 'end'").is_some_and(|(_, after)| after.contains(">>> "))
    });
}

/// Waits until the last of several lines was executed, and asserts that none was lost.
fn all_arrived(terminal: &mut Terminal, mark: usize, messages: &[&str]) {
    at_the_end(terminal, mark);
    let prompt = terminal.line("/show prompt");
    for message in messages {
        assert!(prompt.contains(&format!("<|user|>\r\n{message}\r\n")), "{message}: {prompt}");
    }
    assert_eq!(prompt.matches("<|user|>").count(), messages.len(), "{prompt}");
}

#[test]
fn lines_that_arrive_together_are_all_answered() {
    let folder = home();
    // At the prompt, in one write, as a program sends them.
    for end in ["\r", "\n"] {
        let mut terminal = on_terminal_at(&folder, &["-n", "4"]);
        let mark = terminal.raw.len();
        terminal.raw_keys(["One", "Two", "Three", "/show end", ""].join(end).as_bytes());
        all_arrived(&mut terminal, mark, &["One", "Two", "Three"]);
        // The history has each line.
        let mark = terminal.raw.len();
        terminal.keys("\x1b[A\x1b[A\x1b[A\x1b[A");
        terminal.text_after(mark, "Two");
        terminal.keys("\x15");
        leave(terminal);
    }
    // Before the first prompt, while the model loads.
    let mut terminal = Terminal::new(chat_at(&folder, &["-n", "4"]), 30, 100);
    terminal.raw_keys(b"One\rTwo\r/show end\r");
    all_arrived(&mut terminal, 0, &["One", "Two"]);
    leave(terminal);
    // During an answer.
    let mut terminal =
        on_terminal_at(&folder, &["--temp", "5", "--top-k", "0", "--top-p", "1", "-n", "300", "-s", "2"]);
    let mark = terminal.raw.len();
    terminal.keys("Tell me a story.\r");
    terminal.cooked();
    terminal.raw_keys(b"Two\rThree\r/show end\r");
    at_the_end(&mut terminal, mark);
    let text = fs::read_to_string(folder.path().join("cache/chat_history")).unwrap();
    assert!(text.contains("Tell me a story.\nTwo\nThree\n/show end\n"), "{text}");
    leave(terminal);
}

#[test]
fn paths_are_parsed_as_in_a_shell() {
    let folder = home();
    let home = folder.path().join("home");
    fs::write(folder.path().join("my notes.txt"), "Hello\n").unwrap();
    fs::write(home.join("at home.txt"), "Hello\n").unwrap();
    let mut terminal = on_terminal_at(&folder, &["-n", "4"]);
    let reads = [
        "/read my notes.txt",
        "/read my\\ notes.txt",
        "/read \"my notes.txt\"",
        "/read 'my notes.txt'",
        "/read my\t",
        "/read \"my\t\"",
        "/read ~/at home.txt",
        "/read ~/at\\ home.txt",
        "/read \"~/at home.txt\"",
        "/read ~/at\t",
    ];
    for line in reads {
        let said = terminal.line(line);
        assert!(said.contains("1 line goes before your next message"), "{line}: {said}");
    }
    terminal.line("Hello");
    assert!(terminal.line("/save ~/x.json").contains("saved to"));
    assert!(terminal.line("/export \"~/a b.md\"").contains("written to"));
    assert!(terminal.line("/export ~/c\\ d.md").contains("written to"));
    assert!(terminal.line("/load ~/x.json").contains("1 turn; "));
    assert!(terminal.line("/load ~/x.j\t").contains("1 turn; "));
    assert!(!folder.path().join("~").exists(), "no folder is named ~");
    assert_eq!(mode(&home.join("x.json")), 0o600, "a conversation is its owner's");
    // An exported file has the mode of any new file.
    let other = home.join("other");
    fs::write(&other, "").unwrap();
    assert_eq!(mode(&home.join("a b.md")), mode(&other));
    assert!(home.join("c d.md").exists());
    leave(terminal);
}

#[test]
fn ctrl_c_clears_the_line_and_up_restores_it() {
    let folder = home();
    let mut terminal = on_terminal_at(&folder, &["-n", "4"]);
    let mark = terminal.raw.len();
    terminal.keys("What is your name");
    terminal.text_after(mark, "your name");
    let mark = terminal.raw.len();
    terminal.keys("\x03");
    terminal.prompt_after(mark);
    assert!(!String::from_utf8_lossy(&terminal.raw[mark..]).contains("Ctrl-C again"));
    let mark = terminal.raw.len();
    terminal.keys("\x1b[A");
    terminal.text_after(mark, "What is your name");
    // Changed and cleared again: the last state comes back.
    let mark = terminal.raw.len();
    terminal.keys("?\x03");
    terminal.prompt_after(mark);
    let said = terminal.line("\x1b[A");
    assert!(said.contains("What is your name?"), "{said}");
    assert!(terminal.line("/show prompt").contains("<|user|>\r\nWhat is your name?\r\n"));
    // On an empty line the first Ctrl-C prints a note and the second exits.
    leave_with_ctrl_c(terminal);
}

#[test]
fn history_can_be_switched_off() {
    let folder = home();
    let file = folder.path().join("cache/chat_history");
    for (args, variable) in [(&["--no-history"][..], ""), (&[], "1"), (&[], "yes")] {
        let mut quiet = chat_at(&folder, args);
        quiet.env("TULU_QUANT_NO_HISTORY", variable);
        let mut terminal = Terminal::chat(quiet, 30, 100);
        terminal.line("/last");
        leave(terminal);
        assert!(!file.exists(), "{args:?} {variable}");
    }
    let mut terminal = on_terminal_at(&folder, &[]);
    terminal.line(" /last");
    terminal.line("/set");
    leave(terminal);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("/set\n") && !text.contains("/last"), "{text}");
    assert_eq!(mode(&file), 0o600);
    // An unreadable history is reported once, and chat works without it.
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let mut terminal = on_terminal_at(&folder, &["-n", "4"]);
    assert_eq!(terminal.screen().matches("the input history is not kept").count(), 1, "{}", terminal.screen());
    assert!(terminal.line("Hello").len() > 5);
    assert!(!terminal.line("Hello").contains("is not kept"));
    leave(terminal);
}

#[test]
fn generated_text_does_not_act_on_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let mut at = 0;
    // Random tokens, among them byte tokens. No line editor runs, so every byte is of the answer or of a note.
    for seed in 0..6 {
        let seed = seed.to_string();
        let args = ["-p", "Hi", "--temp", "9", "--top-k", "0", "--top-p", "1", "-n", "300", "-s", &seed];
        let mut terminal = Terminal::new(chat_in(folder.path(), &args), 30, 100);
        assert_eq!(terminal.ended(), 0);
        let text = String::from_utf8(terminal.raw.clone()).unwrap();
        let bad = text.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t' | '\r'));
        assert_eq!(bad, None, "seed {seed}: {text:?}");
        at += text.len();
    }
    assert!(at > 2000, "{at}");
}
