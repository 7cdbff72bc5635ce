//! The slash commands of `chat` on a terminal; screens are kept in `tests/golden/chat`.

use crate::support::chat::{chat_in, home, leave, model_cache, on_terminal, on_terminal_at};
use crate::support::screen::Terminal;
use crate::support::{run, tulu_quant};
use std::fs;

#[test]
fn help_lists_every_command() {
    let (_folder, mut terminal) = on_terminal(&["--temp", "0"]);
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
    let (_folder, mut terminal) = on_terminal(&["--temp", "0", "-s", "7"]);
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
    assert!(terminal.screen().contains("repeat_last_n      number of recent tokens"), "{}", terminal.screen());
    leave(terminal);
}

#[test]
fn show_prints_prompt_template_and_system_message() {
    let (_folder, mut terminal) = on_terminal(&["--temp", "0"]);
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
    leave(terminal);
}

#[test]
fn undo_and_regen_change_turns() {
    let (_folder, mut terminal) = on_terminal(&["--temp", "0"]);
    for line in ["What is the capital of France?", "And of Italy?", "/undo", "/regen", "/undo", "/undo", "/regen"] {
        terminal.line(line);
    }
    terminal.golden("turns", &[]);
    terminal.line("/clear");
    // The up arrow brings the removed message back.
    terminal.line("What is your name?");
    terminal.line("/undo");
    let mark = terminal.raw.len();
    terminal.keys("\x1b[A");
    terminal.text_after(mark, "What is your name?");
    let mark = terminal.raw.len();
    terminal.keys("\x03");
    terminal.prompt_after(mark);
    leave(terminal);
}

#[test]
fn regen_uses_another_seed() {
    let (_folder, mut terminal) = on_terminal(&["--temp", "1.2", "-s", "7", "-n", "24"]);
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
    leave(terminal);
}

#[test]
fn speeds_are_printed_on_request() {
    let (_folder, mut terminal) = on_terminal(&["--temp", "0"]);
    assert!(terminal.line("/last").contains("there was no answer yet"));
    assert!(!terminal.line("Hello").contains("t/s"));
    assert!(terminal.line("/last").contains(" cached, "));
    terminal.line("/set verbose");
    assert!(terminal.line("Thanks").contains("t/s · context"));
    terminal.line("/set quiet");
    assert!(!terminal.line("Hello").contains("t/s"));
    assert!(terminal.line("/set n 2").contains("num_predict is 2"));
    assert!(terminal.line("Hello").contains("cut off at num_predict (-n) tokens"));
    leave(terminal);
}

#[test]
fn conversations_are_saved_and_loaded() {
    let (folder, mut terminal) = on_terminal(&["--temp", "0"]);
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
    leave(terminal);

    let text = fs::read_to_string(folder.path().join("kept/other.json")).unwrap();
    let saved: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(saved["messages"][2]["content"], "And of Italy?");
    assert_eq!(saved["settings"]["temperature"], 0.0);
    assert!(text.lines().count() < 60, "{text}");
}

#[test]
fn files_are_read_and_exported() {
    let (folder, mut terminal) = on_terminal(&["--temp", "0"]);
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
    leave(terminal);

    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    assert!(read("a.md").starts_with("## User\n\nHello\n\nWhat is your name?\n\n## Tulu\n\n"), "{}", read("a.md"));
    // `prompt` and `batch` read the other two.
    let model = fs::read_dir(model_cache()).unwrap().map(|entry| entry.unwrap().path());
    let model = model.into_iter().find(|path| path.extension().is_some_and(|ending| ending == "gguf")).unwrap();
    let prompt = run(tulu_quant().arg("prompt").arg(&model).arg("-i").arg(folder.path().join("a.json")), b"");
    assert!(String::from_utf8(prompt.stdout).unwrap().starts_with("<|user|>\nHello\n\nWhat is your name?\n"));
    let mut batch = tulu_quant();
    batch.arg("batch").arg(&model).arg("-i").arg(folder.path().join("a.jsonl"));
    let batch = run(batch.arg("-o").arg(folder.path().join("out.jsonl")), b"");
    assert!(batch.status.success(), "{batch:?}");
    let answer: serde_json::Value = serde_json::from_str(&read("out.jsonl")).unwrap();
    let conversation: serde_json::Value = serde_json::from_str(&read("a.json")).unwrap();
    assert_eq!(answer["response"]["body"]["choices"][0]["message"]["content"], conversation[1]["content"]);
}

#[test]
fn message_is_written_in_the_editor() {
    let folder = tempfile::tempdir().unwrap();
    let mut with_editor = chat_in(folder.path(), &["--temp", "0"]);
    with_editor.env("VISUAL", "printf ' and\\nthen' >>");
    let mut terminal = Terminal::chat(with_editor, 30, 100);
    terminal.line("/edit First");
    assert!(terminal.line("/show prompt").contains("First and\r\nthen\r\n<|assistant|>"), "{}", terminal.screen());
    leave(terminal);
    let mut without = chat_in(folder.path(), &["--temp", "0"]);
    without.env("EDITOR", "no-such-editor --wait");
    let mut terminal = Terminal::chat(without, 30, 100);
    assert!(terminal.line("/edit").contains("set VISUAL or EDITOR"));
    leave(terminal);
}

#[test]
fn tab_completes() {
    let (folder, mut terminal) = on_terminal(&["--temp", "0"]);
    fs::write(folder.path().join("a-long-name.txt"), "Hello").unwrap();
    assert!(terminal.line("/sho\tparam\t").contains("repeat_last_n"), "{}", terminal.screen());
    assert!(terminal.line("/read a-l\t").contains("a-long-name.txt: 1 line goes"), "{}", terminal.screen());
    leave(terminal);
}

#[test]
fn too_long_file_can_be_dropped() {
    let folder = home();
    fs::write(folder.path().join("big.txt"), "word and word\n".repeat(900)).unwrap();
    fs::write(folder.path().join("small.txt"), "Be brief.\n").unwrap();
    let mut terminal = on_terminal_at(&folder, &["-n", "8"]);
    assert!(terminal.line("/read -").contains("there are no attached files"));
    terminal.line("Hello");
    assert!(terminal.line("/read big.txt").contains("big.txt: 900 lines go before your next message"));
    assert!(terminal.line("/show info").contains("big.txt: 900 lines before your next message; /read - removes it"));
    let refused = terminal.line("What is your name?");
    assert!(refused.contains("the message alone makes a prompt of "), "{refused}");
    assert!(refused.contains("; /read - removes the attached files; shorten it, or give a larger -c"), "{refused}");
    assert!(terminal.line("/read -").contains("1 file was removed"));
    assert!(!terminal.line("/show info").contains("big.txt"));
    assert!(terminal.line("What is your name?").contains("Tulu"));
    assert!(terminal.line("/show prompt").contains("Hello\r\n"), "the conversation is as it was");
    // Without a file the message itself is too long, with every overflow policy.
    let refused = terminal.line(&"word ".repeat(1500));
    assert!(refused.contains("shorten it, or give a larger -c") && !refused.contains("/read -"), "{refused}");
    assert!(terminal.line("/read small.txt").contains("small.txt: 1 line goes before"));
    terminal.line("Thanks");
    assert!(terminal.line("/show prompt").contains("<|user|>\r\nBe brief.\r\n\r\nThanks\r\n"));
    leave(terminal);
    let mut terminal = on_terminal_at(&folder, &["-c", "256", "--on-overflow", "error"]);
    let refused = terminal.line(&"word ".repeat(400));
    assert!(refused.contains("the message alone") && !refused.contains("/clear"), "{refused}");
    leave(terminal);
}

#[test]
fn mistyped_commands_get_hints() {
    let folder = home();
    let mut terminal = on_terminal_at(&folder, &["-n", "8"]);
    for (line, words) in [
        ("/usr/bin/env is what?", "put \"\"\" around it: \"\"\"/usr/bin/env is what?\"\"\""),
        ("exit", "the command is /exit; to send the word, put \"\"\" around it"),
        ("quit", "the command is /quit"),
        ("help", "the command is /help"),
        ("/set temperature", "temperature is 0 (sampling temperature; 0 is greedy)"),
        ("/set parameter", "repeat_last_n      number of recent tokens"),
        ("/set num_ctx 4096", "quit, then run chat with -c N"),
        ("/set overflow", "overflow is drop-oldest"),
        ("/load nothing", "there is no saved conversation 'nothing'; saved ones: none yet"),
    ] {
        let said = terminal.line(line);
        assert!(said.contains(words), "{line}: {said}");
    }
    assert!(terminal.line("/show info").contains("turns     0"));
    terminal.line("\"\"\"exit\"\"\"");
    assert!(terminal.line("/show prompt").contains("<|user|>\r\nexit\r\n"));
    terminal.line("/save trip");
    assert!(terminal.line("/load nothing").contains("saved ones: trip"));
    leave(terminal);
}
