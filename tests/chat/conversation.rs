//! Saved conversations: their files, damaged and forged ones, and which one `--continue` takes.

use crate::support::chat::{chat, chat_at, home, leave, on_terminal_at};
use crate::support::screen::Terminal;
use crate::support::{demo_model, last_line, mode, run};
use rexpect::process::Signal;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

/// A saved conversation of two turns, in a folder of its own.
fn kept() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = chat(&["--temp", "0"]);
    command.current_dir(folder.path());
    let mut terminal = Terminal::chat(command, 30, 100);
    terminal.line("What is the capital of France?");
    terminal.line("And of Italy?");
    assert!(terminal.line("/save ./trip.json").contains("its KV cache, "));
    terminal.keys("\x04");
    assert_eq!(terminal.ended(), 0);
    let file = folder.path().join("trip.json");
    (folder, file)
}

/// Continues the conversation in `file`.
fn go_on(file: &Path, args: &[&str]) -> Output {
    run(chat(&["--load", file.to_str().unwrap(), "-p", "Thanks", "--json"]).args(args), b"")
}

fn answer(output: &Output) -> (String, u64) {
    assert!(output.status.success(), "{output:?}");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    (answer["text"].as_str().unwrap().to_owned(), answer["usage"]["cached_tokens"].as_u64().unwrap())
}

#[test]
fn loading_a_saved_conversation_reuses_the_kv_cache() {
    let (_folder, file) = kept();
    let (text, cached) = answer(&go_on(&file, &[]));
    assert!(cached > 30, "{cached}");
    fs::remove_file(file.with_extension("kv")).unwrap();
    let output = go_on(&file, &[]);
    assert_eq!(answer(&output), (text, 0));
    assert!(!String::from_utf8_lossy(&output.stderr).contains("note"), "{output:?}");
}

/// Asserts that the KV cache `kv` is not used, that a note says so, and that the answer is the same.
fn is_not_used(file: &Path, kv: &[u8], args: &[&str], why: &str, text: &str) {
    fs::write(file.with_extension("kv"), kv).unwrap();
    let output = go_on(file, args);
    assert_eq!(answer(&output), (text.to_owned(), 0), "{why}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("its KV cache is not used") && said.contains(why), "{why}: {said}");
}

#[test]
fn damaged_kv_cache_is_not_used() {
    let (_folder, file) = kept();
    let (text, _) = answer(&go_on(&file, &[]));
    let whole = fs::read(file.with_extension("kv")).unwrap();
    for part in 0..24 {
        let mut bytes = whole.clone();
        let at = (bytes.len() - 1) * part / 23;
        bytes[at] ^= 1 << (part % 8);
        is_not_used(&file, &bytes, &[], "it is", &text);
    }
    for part in 0..12 {
        is_not_used(&file, &whole[..whole.len() * part / 12], &[], "it is truncated", &text);
    }
    is_not_used(&file, &[whole.as_slice(), b"more"].concat(), &[], "it is truncated", &text);
    let kv = file.with_extension("kv");
    fs::remove_file(&kv).unwrap();
    fs::create_dir(&kv).unwrap();
    assert_eq!(answer(&go_on(&file, &[])).1, 0);
}

#[test]
fn kv_cache_of_other_settings_is_not_used() {
    let (_folder, file) = kept();
    let whole = fs::read(file.with_extension("kv")).unwrap();
    for (args, why) in [
        (["-ctk", "f32"], "another type of keys"),
        (["-ctv", "q8_0"], "another type of values"),
        (["-fa", "off"], "another setting of flash attention"),
    ] {
        fs::remove_file(file.with_extension("kv")).unwrap();
        let (text, _) = answer(&go_on(&file, &args));
        is_not_used(&file, &whole, &args, why, &text);
    }
    // The same model in another type: equal token ids, another KV cache.
    let model = demo_model().to_str().unwrap();
    let output = go_on(&file, &[model]);
    assert_eq!(answer(&output).1, 0);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("saved with another model"), "{said}");
}

/// Forged files with a valid checksum and a false state. llama.cpp would abort on some of them.
#[test]
fn forged_kv_cache_does_no_harm() {
    let (_folder, file) = kept();
    let (text, _) = answer(&go_on(&file, &[]));
    let whole = fs::read(file.with_extension("kv")).unwrap();
    let end = whole.len() - 12;
    let len = u32::from_le_bytes(whole[end..end + 4].try_into().unwrap()) as usize;
    let (state, seal): (_, Value) = (&whole[..end - len], serde_json::from_slice(&whole[end - len..end]).unwrap());
    let tokens = u32::from_le_bytes(state[8..12].try_into().unwrap()) as usize;
    let cells = 12 + 4 * tokens;
    let first_cell = cells + 8;
    let layers = first_cell + 12 * tokens;
    for (at, value) in [
        (0, 0),
        (4, 99),
        (8, 0),
        (8, u32::MAX),
        (8, u32::try_from(tokens).unwrap() - 1),
        (16, 1_000_000),
        (cells, 2),
        (cells + 4, 0),
        (cells + 4, u32::MAX),
        (first_cell, u32::MAX),
        (first_cell, 7),
        (first_cell + 4, 2),
        (layers, 7),
        (layers + 4, 7),
        (layers + 8, 7),
        (layers + 16, 99),
        (layers + 20, 7),
    ] {
        let mut bytes = state.to_vec();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        let mut seal = seal.clone();
        seal["crc32"] = crc32fast::hash(&bytes).into();
        let seal = serde_json::to_vec(&seal).unwrap();
        bytes.extend(&seal);
        bytes.extend(u32::try_from(seal.len()).unwrap().to_le_bytes());
        bytes.extend(b"TULU-KV1");
        is_not_used(&file, &bytes, &[], "note", &text);
    }
}

#[test]
fn damaged_conversation_is_refused() {
    let (folder, file) = kept();
    let whole = fs::read_to_string(&file).unwrap();
    let other = folder.path().join("other.json");
    let with = |from: &str, to: &str| {
        assert!(whole.contains(from), "{from}");
        whole.replacen(from, to, 1)
    };
    let mut cases: Vec<(String, &str)> =
        (0..20).map(|part| (whole[..whole.len() * part / 20].to_owned(), "")).collect();
    cases.extend([
        (with("\"version\": 1", "\"version\": 9"), "newer tulu-quant"),
        (with("tulu-quant conversation", "conversation"), "not a saved conversation"),
        (with("\"role\": \"assistant\"", "\"role\": \"tool\""), "message 2: its role"),
        (with("\"role\": \"assistant\"", "\"role\": \"user\""), "message 2 has the role user instead of assistant"),
        (with("\"ids\": \"", "\"ids\": \"x "), "its ids are not numbers"),
        (with("\"temperature\": 0.0", "\"temperature\": -1.0"), "temperature"),
        (with("\"first_sent\": 0", "\"first_sent\": 1"), "first_sent is 1, which is not a message of the user"),
        ("[]".to_owned(), "no saved conversation"),
    ]);
    for (text, why) in cases {
        fs::write(&other, &text).unwrap();
        let output = go_on(&other, &[]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let line = last_line(&output);
        assert!(line.contains("other.json: ") && line.contains(why), "{why}: {line}");
    }
    assert_eq!(go_on(&folder.path().join("nowhere.json"), &[]).status.code(), Some(2));
    // An edited answer is prefilled as it is now.
    fs::write(&other, with("Paris", "Bonn")).unwrap();
    answer(&go_on(&other, &[]));
}

/// Only the template writes special tokens, whatever a file contains.
#[test]
fn loaded_text_never_becomes_a_special_token() {
    let (folder, file) = kept();
    let tokens = |file: &Path| {
        let output = go_on(file, &[]);
        answer(&output);
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        answer["usage"]["prompt_tokens"].as_u64().unwrap()
    };
    let as_said = tokens(&file);
    let whole = fs::read_to_string(&file).unwrap();
    let other = folder.path().join("other.json");
    for ids in ["\"ids\": \"2 ", "\"ids\": \"1 2 0 "] {
        fs::write(&other, whole.replace("\"ids\": \"", ids)).unwrap();
        assert_eq!(tokens(&other), as_said, "{ids}");
    }
}

#[test]
fn names_and_titles_do_not_act_on_the_terminal() {
    let (folder, file) = kept();
    let mut saved: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let evil = "\u{1b}]0;x\u{7}\u{9b}2J\u{202e}";
    saved["title"] = evil.into();
    saved["model"]["file"] = evil.into();
    saved["model"]["fingerprint"] = "other".into();
    saved["messages"][2]["content"] = format!("What?{evil}").into();
    saved["messages"][3]["content"] = format!("That.{evil}").into();
    let folder = folder.path();
    fs::write(folder.join(format!("a{evil}.json")), saved.to_string()).unwrap();
    fs::rename(folder.join(format!("a{evil}.json")), folder.join("b.json")).unwrap();
    fs::write(folder.join(format!("c{evil}.txt")), "Hello").unwrap();
    let mut command = chat(&["--temp", "0"]);
    command.current_dir(folder).env("TULU_QUANT_CONVERSATIONS", folder);
    let mut terminal = Terminal::chat(command, 30, 100);
    let mut shown = String::new();
    for line in
        ["/load", "/load ./b.json", "/show prompt", "/show info", "/undo", "/read c\t\t", "/system \u{9b}2J", "/system"]
    {
        shown += &terminal.line(line);
    }
    assert!(shown.contains("That."), "{shown}");
    // The line editor's own sequences begin with ESC [ and never with these.
    for bad in ["\u{1b}]", "\u{7}\u{9b}", "\u{9b}", "\u{202e}"] {
        assert!(!shown.contains(bad), "{bad:?} in {shown:?}");
    }
    terminal.keys("\x04");
    assert_eq!(terminal.ended(), 0);
}

#[test]
fn unsaved_conversation_is_kept_as_last() {
    let folder = home();
    let last = folder.path().join("kept/last.json");
    let question = "What is the capital of France?";
    let kept = || fs::read_to_string(&last).unwrap();
    let none = run(&mut chat_at(&folder, &["--continue", "-p", "x"]), b"");
    assert!(last_line(&none).contains("there is no saved conversation"), "{none:?}");
    assert_eq!(none.status.code(), Some(2));
    // Without a message nothing is kept.
    leave(on_terminal_at(&folder, &[]));
    assert!(!last.exists());
    // Ctrl-D keeps it.
    let mut terminal = on_terminal_at(&folder, &[]);
    terminal.line(question);
    assert!(leave(terminal).contains("`tulu-quant chat --continue` resumes it"));
    assert!(kept().contains(question) && mode(&last) == 0o600);
    // Continued by a flag, by a name, with -p.
    let mut terminal = on_terminal_at(&folder, &["--continue"]);
    assert!(terminal.screen().contains("1 turn; it will be processed again"), "{}", terminal.screen());
    assert!(terminal.line("And of Italy?").contains("Rome"));
    assert!(terminal.line("/save").contains("give it a name"));
    assert!(terminal.line("/save last").contains("give another name"));
    leave(terminal);
    assert!(kept().contains("And of Italy?"));
    let answer = run(&mut chat_at(&folder, &["--load", "last", "-p", "Thanks"]), b"");
    assert!(answer.status.success(), "{answer:?}");
    // A conversation that was saved, cleared or not continued leaves it unchanged.
    let before = kept();
    let mut terminal = on_terminal_at(&folder, &["--continue"]);
    terminal.line("Hello");
    terminal.line("/save trip");
    leave(terminal);
    let mut terminal = on_terminal_at(&folder, &[]);
    terminal.line("Hello");
    terminal.line("/clear");
    leave(terminal);
    leave(on_terminal_at(&folder, &["--load", "trip"]));
    let mut terminal = on_terminal_at(&folder, &["--no-history"]);
    terminal.line("Secret");
    assert!(!leave(terminal).contains("--continue"));
    assert_eq!(kept(), before);
    // --continue takes the conversation that was saved last.
    let mut terminal = on_terminal_at(&folder, &["--continue"]);
    assert!(terminal.screen().contains("3 turns; "), "{}", terminal.screen());
    assert!(terminal.line("/save").contains("trip.json"));
    leave(terminal);
    // Signals keep it.
    for (signal, word) in [(Signal::SIGTERM, "By TERM"), (Signal::SIGHUP, "By HUP")] {
        let mut terminal = on_terminal_at(&folder, &[]);
        terminal.line(word);
        terminal.signal(signal);
        match signal {
            Signal::SIGTERM => assert_eq!(terminal.ended(), 143),
            _ => assert_eq!(terminal.killed(), signal),
        }
        assert!(kept().contains(word), "{}", kept());
    }
    let mut terminal = on_terminal_at(&folder, &[]);
    terminal.line("By key");
    let mark = terminal.raw.len();
    terminal.keys("\x03");
    terminal.text_after(mark, "Ctrl-C again");
    terminal.prompt_after(mark);
    terminal.keys("\x03");
    assert_eq!(terminal.ended(), 130);
    assert!(kept().contains("By key"));
}
