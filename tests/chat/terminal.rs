//! `tulu-quant chat` on a terminal, as a person sees it: every slash command, keys and signals, pastes, window sizes. The
//! demonstration model answers; screens are kept in `tests/golden/chat`.

use crate::support::screen::Terminal;
use crate::support::tulu_quant;
use rexpect::process::Signal;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Sampling under which the demonstration model talks until its window is full, for tests that stop it.
const ENDLESS: [&str; 10] = ["--temp", "5", "--top-k", "0", "--top-p", "1", "-n", "-1", "-s", "2"];

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = tulu_quant();
    let cache = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("chat-cache");
    command.arg("chat").args(args).current_dir(folder).env("TULU_QUANT_CACHE", cache);
    command.env("TULU_QUANT_CONVERSATIONS", folder.join("kept")).env("TULU_QUANT_THREADS", "1");
    command.env_remove("VISUAL").env_remove("EDITOR");
    command
}

/// A conversation on a terminal of 30 lines and 100 columns, in a folder of its own.
fn chat(args: &[&str]) -> (TempDir, Terminal) {
    let folder = tempfile::tempdir().unwrap();
    let terminal = Terminal::chat(command(folder.path(), args), 30, 100);
    (folder, terminal)
}

fn leaves(mut terminal: Terminal) {
    terminal.keys("\x04");
    assert_eq!(terminal.ended(), 0);
}

#[test]
fn help_lists_every_command() {
    let (_folder, mut terminal) = chat(&["--temp", "0"]);
    terminal.line("/help");
    terminal.line("/claer");
    terminal.line("/nonsense");
    terminal.line("/clear now");
    terminal.golden("help", &[]);
    terminal.keys("/bye\r");
    assert_eq!(terminal.ended(), 0);
}

#[test]
fn settings_are_set_and_shown() {
    let (_folder, mut terminal) = chat(&["--temp", "0", "-s", "7"]);
    for line in [
        "/set temperature 0.25",
        "/set parameter top_k 5",
        "/set parameter stop \"\\n\\n\"",
        "/set temp hot",
        "/set top_q 1",
        "/set n -1",
        "/set overflow never",
        "/set overflow error",
        "/show parameters",
    ] {
        terminal.line(line);
    }
    terminal.golden("set", &[]);
    terminal.line("/set");
    assert!(terminal.screen().contains("repeat_last_n      how many of the last tokens"), "{}", terminal.screen());
    leaves(terminal);
}

#[test]
fn what_the_model_reads_is_shown() {
    let (_folder, mut terminal) = chat(&["--temp", "0"]);
    for line in
        ["/system", "/system Be brief.", "Hello", "/system", "/show prompt", "/system -", "/show prompt", "/show it"]
    {
        terminal.line(line);
    }
    terminal.golden("show", &[]);
    let info = terminal.line("/show info");
    assert!(info.contains("tulu-tiny") && info.contains("KV cache  f16 + f16"), "{info}");
    assert!(terminal.line("/show template").contains("{% for message in messages %}"));
    assert!(terminal.line("/show system").contains("there is no system message"));
    leaves(terminal);
}

#[test]
fn turns_are_taken_back_and_answered_again() {
    let (_folder, mut terminal) = chat(&["--temp", "0"]);
    for line in ["What is the capital of France?", "And of Italy?", "/undo", "/regen", "/undo", "/undo", "/regen"] {
        terminal.line(line);
    }
    terminal.golden("turns", &[]);
    terminal.line("/clear");
    // The up arrow brings what was taken back.
    terminal.line("What is your name?");
    terminal.line("/undo");
    let mark = terminal.raw.len();
    terminal.keys("\x1b[A");
    terminal.text_after(mark, "What is your name?");
    let mark = terminal.raw.len();
    terminal.keys("\x03");
    terminal.prompt_after(mark);
    leaves(terminal);
}

#[test]
fn another_answer_has_another_seed() {
    let (_folder, mut terminal) = chat(&["--temp", "1.2", "-s", "7", "-n", "24"]);
    terminal.line("Tell me a story.");
    let prompt = |terminal: &mut Terminal| {
        let shown = terminal.line("/show prompt");
        shown.split("<|assistant|>").nth(1).unwrap_or_default().to_owned()
    };
    let first = prompt(&mut terminal);
    let different = (0..4).any(|_| {
        terminal.line("/regen");
        prompt(&mut terminal) != first
    });
    assert!(different, "{first}");
    leaves(terminal);
}

#[test]
fn figures_come_on_demand() {
    let (_folder, mut terminal) = chat(&["--temp", "0"]);
    assert!(terminal.line("/last").contains("there was no answer yet"));
    assert!(!terminal.line("Hello").contains("t/s"));
    assert!(terminal.line("/last").contains(" cached, "));
    terminal.line("/set verbose");
    assert!(terminal.line("Thanks").contains("t/s · window"));
    terminal.line("/set quiet");
    assert!(!terminal.line("Hello").contains("t/s"));
    assert!(terminal.line("/set n 2").contains("num_predict is 2"));
    assert!(terminal.line("Hello").contains("cut: num_predict (-n) allows no more"));
    leaves(terminal);
}

#[test]
fn conversations_are_kept_and_found_again() {
    let (folder, mut terminal) = chat(&["--temp", "0"]);
    for line in
        ["/save", "/load", "What is the capital of France?", "/save", "/save trip", "And of Italy?", "/save", "/clear"]
    {
        terminal.line(line);
    }
    let path = folder.path().to_str().unwrap().to_owned();
    let size = |text: &str| {
        let at = text.find("its KV cache, ").unwrap() + "its KV cache, ".len();
        text[at..].split(" beside").next().unwrap().to_owned()
    };
    let screen = terminal.screen();
    let (first, second) = (size(&screen), size(&screen[screen.rfind("saved to").unwrap()..]));
    terminal.line("/load nowhere");
    terminal.line("/load trip");
    terminal.golden("saved", &[(&path, "<folder>"), (&first, "<size>"), (&second, "<size>")]);
    assert!(terminal.line("/save other").contains("saved to"));
    terminal.line("/clear");
    assert!(terminal.line("Hello").len() > 5);
    assert!(terminal.line("/save trip").contains("already exists"));
    assert!(terminal.line("/save -f trip").contains("saved to"));
    assert!(terminal.line("/save ./x.kv").contains("end the name in .json"));
    let list = terminal.line("/load");
    assert!(list.contains("other    2 turns") && list.contains("trip     1 turn "), "{list}");
    leaves(terminal);

    let text = fs::read_to_string(folder.path().join("kept/other.json")).unwrap();
    let saved: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(saved["messages"][2]["content"], "And of Italy?");
    assert_eq!(saved["settings"]["temperature"], 0.0);
    assert!(text.lines().count() < 60, "{text}");
}

#[test]
fn files_are_read_and_written() {
    let (folder, mut terminal) = chat(&["--temp", "0"]);
    fs::write(folder.path().join("notes.txt"), "Hello\n").unwrap();
    fs::write(folder.path().join("bytes"), b"\xff\xfe").unwrap();
    for line in
        ["/read", "/read nowhere", "/read bytes", "/read notes.txt", "What is your name?", "/export", "/export a.txt"]
    {
        terminal.line(line);
    }
    for name in ["a.md", "a.json", "a.jsonl", "a.md", "-f a.md"] {
        terminal.line(&format!("/export {name}"));
    }
    terminal.golden("files", &[]);
    leaves(terminal);

    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    assert!(read("a.md").starts_with("## User\n\nHello\n\nWhat is your name?\n\n## Tulu\n\n"), "{}", read("a.md"));
    // Other verbs of this program take the other two.
    let model = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("chat-cache");
    let model = fs::read_dir(model).unwrap().map(|entry| entry.unwrap().path());
    let model = model.into_iter().find(|path| path.extension().is_some_and(|ending| ending == "gguf")).unwrap();
    let prompt =
        crate::support::run(tulu_quant().arg("prompt").arg(&model).arg("-i").arg(folder.path().join("a.json")), b"");
    assert!(String::from_utf8(prompt.stdout).unwrap().starts_with("<|user|>\nHello\n\nWhat is your name?\n"));
    let mut batch = tulu_quant();
    batch.arg("batch").arg(&model).arg("-i").arg(folder.path().join("a.jsonl"));
    let batch = crate::support::run(batch.arg("-o").arg(folder.path().join("out.jsonl")), b"");
    assert!(batch.status.success(), "{batch:?}");
    let answer: serde_json::Value = serde_json::from_str(&read("out.jsonl")).unwrap();
    let conversation: serde_json::Value = serde_json::from_str(&read("a.json")).unwrap();
    assert_eq!(answer["response"]["body"]["choices"][0]["message"]["content"], conversation[1]["content"]);
}

#[test]
fn a_message_is_written_in_the_users_editor() {
    let folder = tempfile::tempdir().unwrap();
    let mut with_editor = command(folder.path(), &["--temp", "0"]);
    with_editor.env("VISUAL", "printf ' and\\nthen' >>");
    let mut terminal = Terminal::chat(with_editor, 30, 100);
    terminal.line("/edit First");
    assert!(terminal.line("/show prompt").contains("First and\r\nthen\r\n<|assistant|>"), "{}", terminal.screen());
    leaves(terminal);
    let mut without = command(folder.path(), &["--temp", "0"]);
    without.env("EDITOR", "no-such-editor --wait");
    let mut terminal = Terminal::chat(without, 30, 100);
    assert!(terminal.line("/edit").contains("set VISUAL or EDITOR"));
    leaves(terminal);
}

#[test]
fn a_paste_is_one_message() {
    let (_folder, mut terminal) = chat(&["--temp", "0", "-n", "8"]);
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
    // A block that is typed, with a line that would be a command.
    for part in ["\"\"\"", "/exit", "is a word"] {
        terminal.keys(part);
        terminal.keys("\r");
    }
    terminal.line("\"\"\"");
    assert!(terminal.line("/show prompt").contains("/exit\r\nis a word\r\n<|assistant|>"));
    leaves(terminal);
}

#[test]
fn every_script_can_be_typed() {
    let (_folder, mut terminal) = chat(&["--temp", "0", "-n", "1"]);
    let text = "日本語 e\u{301} ñ 👩\u{200d}👩\u{200d}👧 العربية";
    terminal.keys(text);
    // Two columns wide, one key: the terminal shows what the model is sent.
    terminal.keys(" 漢\x7f字");
    terminal.line("");
    let prompt = terminal.line("/show prompt");
    assert!(prompt.contains(&format!("{text} 字\r\n")), "{prompt}");
    // Bytes that are no text are refused, and the session goes on.
    let mark = terminal.raw.len();
    terminal.raw_keys(b"\xff\xfe\r");
    terminal.text_after(mark, "not UTF-8");
    terminal.prompt_after(mark);
    terminal.keys("\x15");
    assert!(terminal.line("Hello").len() > 5);
    leaves(terminal);
}

#[test]
fn what_is_pasted_cannot_act_on_the_terminal() {
    let (_folder, mut terminal) = chat(&["--temp", "0", "-n", "1"]);
    let mark = terminal.raw.len();
    terminal.paste("a\u{9b}2Jb\u{7}c\u{202e}d");
    terminal.line("");
    let shown = String::from_utf8_lossy(&terminal.raw[mark..]).into_owned();
    assert!(!shown.contains(['\u{9b}', '\u{202e}']), "{shown:?}");
    leaves(terminal);
}

#[test]
fn the_window_may_change_its_size() {
    let (_folder, mut terminal) = chat(&["--temp", "0", "-n", "1"]);
    terminal.keys("one two three four five six seven eight nine ten ");
    terminal.take(Duration::from_millis(50));
    terminal.resize(20, 40);
    terminal.take(Duration::from_millis(50));
    terminal.keys("eleven twelve");
    terminal.line("");
    terminal.resize(24, 120);
    assert!(terminal.line("/show prompt").contains("eight nine ten eleven twelve"), "{}", terminal.screen());
    leaves(terminal);
}

#[test]
fn tab_completes() {
    let (folder, mut terminal) = chat(&["--temp", "0"]);
    fs::write(folder.path().join("a-long-name.txt"), "Hello").unwrap();
    assert!(terminal.line("/sho\tparam\t").contains("repeat_last_n"), "{}", terminal.screen());
    assert!(terminal.line("/read a-l\t").contains("a-long-name.txt: 1 line goes"), "{}", terminal.screen());
    leaves(terminal);
}

#[test]
fn typed_role_markers_are_flagged() {
    let (_folder, mut terminal) = chat(&["--temp", "0"]);
    assert!(terminal.line("Hi <|assistant|> there").contains("takes for the beginning of a turn"));
    assert!(terminal.line("Hi </s> there").contains("plain text to the model"));
    leaves(terminal);
}

#[test]
fn ctrl_c_stops_in_prefill_and_in_generation() {
    let (_folder, mut terminal) = chat(&ENDLESS);
    terminal.line("/set temperature 0");
    terminal.line("Hello");
    // Some 900 tokens to read: stopped while they are.
    let mark = terminal.raw.len();
    terminal.paste(&"word and word ".repeat(220));
    terminal.keys("\r");
    terminal.cooked();
    let asked = Instant::now();
    terminal.keys("\x03");
    terminal.prompt_after(mark);
    println!("stopped in prefill after {:?}", asked.elapsed());
    assert!(asked.elapsed() < Duration::from_secs(2));
    assert!(terminal.screen().contains("stopped"), "{}", terminal.screen());
    let prompt = terminal.line("/show prompt");
    assert!(prompt.contains("Hello") && !prompt.contains("word and word"), "{prompt}");
    assert!(terminal.line("Thanks").len() > 8);

    terminal.line("/set temperature 5");
    let mark = terminal.raw.len();
    terminal.keys("Tell me a story.\r");
    terminal.cooked();
    let begun = terminal.raw.len();
    terminal.until("an answer", |terminal| terminal.raw.len() > begun + 40);
    let asked = Instant::now();
    terminal.keys("\x03");
    terminal.text_after(mark, "stopped");
    println!("stopped in generation after {:?}", asked.elapsed());
    terminal.prompt_after(mark);
    let prompt = terminal.line("/show prompt");
    let answer = prompt.rsplit("Tell me a story.").next().unwrap();
    assert!(answer.len() > 40, "what was said is kept: {prompt}");
    terminal.line("/set temperature 0");
    assert!(terminal.line("Thanks").len() > 8);
    leaves(terminal);
}

#[test]
fn ctrl_c_twice_leaves_with_the_terminal_as_it_was() {
    let (_folder, mut terminal) = chat(&ENDLESS);
    let mark = terminal.raw.len();
    terminal.keys("\x03");
    terminal.text_after(mark, "Ctrl-C again, Ctrl-D or /exit leaves");
    terminal.prompt_after(mark);
    terminal.keys("\x03");
    assert_eq!(terminal.ended(), 130);

    let (_folder, mut terminal) = chat(&ENDLESS);
    terminal.keys("Tell me a story.\r");
    terminal.cooked();
    let begun = terminal.raw.len();
    terminal.until("an answer", |terminal| terminal.raw.len() > begun + 40);
    let begun = terminal.raw.len();
    terminal.keys("\x03");
    // Two at once would be one signal; after the word the prompt may be there or not yet.
    terminal.text_after(begun, "stopped");
    terminal.keys("\x03");
    assert_eq!(terminal.ended(), 130);
}

#[test]
fn signals_leave_with_the_terminal_as_it_was() {
    let (_folder, mut terminal) = chat(&[]);
    // From elsewhere, not the key: nothing is being done that could stop, at most the line that is typed.
    terminal.signal(Signal::SIGINT);
    terminal.take(Duration::from_millis(50));
    terminal.line("");
    terminal.take(Duration::from_millis(200));
    let mark = terminal.raw.len();
    terminal.keys("/last\r");
    terminal.text_after(mark, "no answer yet");
    terminal.prompt_after(mark);
    terminal.signal(Signal::SIGTERM);
    assert_eq!(terminal.ended(), 143);
}

#[test]
fn whole_oldest_turns_go_when_the_window_is_full() {
    let (_folder, mut terminal) = chat(&["--temp", "0", "-c", "256", "-n", "32", "--system", "Be brief."]);
    let mut told = String::new();
    for turn in 0..12 {
        told = terminal.line(&format!("Question {turn}: what is the capital of France, and what of Italy?"));
        assert!(!told.contains("no longer fits"), "{told}");
        if told.contains("oldest turn") {
            assert!(turn > 1);
            break;
        }
    }
    assert!(told.contains("the model no longer sees the"), "{}", terminal.screen());
    let prompt = terminal.line("/show prompt");
    let sent = &prompt[prompt.find("<|system|>").unwrap()..];
    assert!(sent.starts_with("<|system|>\r\nBe brief.\r\n<|user|>\r\nQuestion "), "{sent}");
    assert!(!sent.contains("Question 0:"), "{sent}");
    assert!(terminal.line("/show info").contains("not sent"));
    // Nothing is lost: the conversation that is kept is whole.
    assert!(terminal.line("/export all.md").contains("written"));
    let alone = terminal.line(&"word ".repeat(400));
    assert!(alone.contains("the message alone makes a prompt of"), "{alone}");
    assert!(alone.contains("the window holds 256"), "{alone}");
    let whole = fs::read_to_string(_folder.path().join("all.md")).unwrap();
    assert!(whole.contains("Question 0:"), "{whole}");
    leaves(terminal);

    let (_folder, mut terminal) = chat(&["--temp", "0", "-c", "256", "-n", "32", "--on-overflow", "error"]);
    let refused =
        (0..20).any(|_| terminal.line("What is the capital of France, and what of Italy?").contains("no longer fits"));
    assert!(refused, "{}", terminal.screen());
    leaves(terminal);
}

#[test]
fn what_a_model_says_cannot_harm_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let mut at = 0;
    // Random tokens, bytes among them. No editor runs, so every byte that comes is of the answer or of a note.
    for seed in 0..6 {
        let seed = seed.to_string();
        let args = ["-p", "Hi", "--temp", "9", "--top-k", "0", "--top-p", "1", "-n", "300", "-s", &seed];
        let mut terminal = Terminal::new(command(folder.path(), &args), 30, 100);
        assert_eq!(terminal.ended(), 0);
        let text = String::from_utf8(terminal.raw.clone()).unwrap();
        let bad = text.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t' | '\r'));
        assert_eq!(bad, None, "seed {seed}: {text:?}");
        at += text.len();
    }
    assert!(at > 2000, "{at}");
}
