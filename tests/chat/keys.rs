//! A conversation on a terminal: what is typed arrives, all of it and where it belongs, and what was said is kept.

use crate::support::screen::Terminal;
use crate::support::tulu_quant;
use rexpect::process::Signal;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A chat whose folders are all below `folder`, the home folder too.
fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = tulu_quant();
    let usual: &[&str] = if args.contains(&"--temp") { &[] } else { &["--temp", "0"] };
    command.arg("chat").args(usual).args(args).current_dir(folder);
    command.env("TULU_QUANT_CACHE", folder.join("cache")).env("HOME", folder.join("home"));
    command.env("TULU_QUANT_CONVERSATIONS", folder.join("kept")).env("TULU_QUANT_THREADS", "1");
    command
}

/// A folder with a home, and with the model in the cache, so that no chat waits for it to be made.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let shared = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("keys-cache");
    let mut once = command(folder.path(), &["-p", "Hello", "-n", "1"]);
    assert!(crate::support::run(once.env("TULU_QUANT_CACHE", &shared), b"").status.success());
    fs::create_dir_all(folder.path().join("cache")).unwrap();
    fs::create_dir(folder.path().join("home")).unwrap();
    for entry in fs::read_dir(shared).unwrap().map(Result::unwrap) {
        if entry.path().extension().is_some_and(|ending| ending == "gguf") {
            fs::copy(entry.path(), folder.path().join("cache").join(entry.file_name())).unwrap();
        }
    }
    folder
}

fn chat(folder: &TempDir, args: &[&str]) -> Terminal {
    Terminal::chat(command(folder.path(), args), 30, 100)
}

fn leaves(mut terminal: Terminal) -> String {
    let mark = terminal.raw.len();
    terminal.keys("\x04");
    assert_eq!(terminal.ended(), 0);
    String::from_utf8_lossy(&terminal.raw[mark..]).into_owned()
}

fn mode(file: &Path) -> u32 {
    fs::metadata(file).unwrap().permissions().mode() & 0o777
}

/// Waits for the prompt behind the answer to `/show end`, the last of several lines.
fn at_the_end(terminal: &mut Terminal, mark: usize) {
    terminal.until("the prompt behind the last line", |terminal| {
        let new = String::from_utf8_lossy(&terminal.raw[mark..]).into_owned();
        new.rsplit_once("cannot show 'end'").is_some_and(|(_, after)| after.contains(">>> "))
    });
}

/// Waits until the last of several lines was obeyed, and checks that none was lost.
fn all_arrived(terminal: &mut Terminal, mark: usize, messages: &[&str]) {
    at_the_end(terminal, mark);
    let prompt = terminal.line("/show prompt");
    for message in messages {
        assert!(prompt.contains(&format!("<|user|>\r\n{message}\r\n")), "{message}: {prompt}");
    }
    assert_eq!(prompt.matches("<|user|>").count(), messages.len(), "{prompt}");
}

#[test]
fn lines_that_arrive_together_are_all_kept() {
    let folder = folder();
    // At the prompt, in one write, as a program that drives a terminal sends them.
    for end in ["\r", "\n"] {
        let mut terminal = chat(&folder, &["-n", "4"]);
        let mark = terminal.raw.len();
        terminal.raw_keys(["One", "Two", "Three", "/show end", ""].join(end).as_bytes());
        all_arrived(&mut terminal, mark, &["One", "Two", "Three"]);
        // They are in the history as if each had been typed.
        let mark = terminal.raw.len();
        terminal.keys("\x1b[A\x1b[A\x1b[A\x1b[A");
        terminal.text_after(mark, "Two");
        terminal.keys("\x15");
        leaves(terminal);
    }
    // Before the first prompt, while the model loads.
    let mut terminal = Terminal::new(command(folder.path(), &["-n", "4"]), 30, 100);
    terminal.raw_keys(b"One\rTwo\r/show end\r");
    all_arrived(&mut terminal, 0, &["One", "Two"]);
    leaves(terminal);
    // While an answer is being made.
    let mut terminal = chat(&folder, &["--temp", "5", "--top-k", "0", "--top-p", "1", "-n", "300", "-s", "2"]);
    let mark = terminal.raw.len();
    terminal.keys("Tell me a story.\r");
    terminal.cooked();
    terminal.raw_keys(b"Two\rThree\r/show end\r");
    at_the_end(&mut terminal, mark);
    let text = fs::read_to_string(folder.path().join("cache/chat_history")).unwrap();
    assert!(text.contains("Tell me a story.\nTwo\nThree\n/show end\n"), "{text}");
    leaves(terminal);
}

#[test]
fn a_file_that_is_too_long_can_be_dropped() {
    let folder = folder();
    fs::write(folder.path().join("big.txt"), "word and word\n".repeat(900)).unwrap();
    fs::write(folder.path().join("small.txt"), "Be brief.\n").unwrap();
    let mut terminal = chat(&folder, &["-n", "8"]);
    assert!(terminal.line("/read -").contains("nothing was read"));
    terminal.line("Hello");
    assert!(terminal.line("/read big.txt").contains("big.txt: 900 lines go before your next message"));
    assert!(terminal.line("/show info").contains("big.txt: 900 lines before your next message; /read - drops it"));
    let refused = terminal.line("What is your name?");
    assert!(refused.contains("the message alone makes a prompt of "), "{refused}");
    assert!(refused.contains("; /read - drops what was read; shorten it, or give a larger -c"), "{refused}");
    assert!(terminal.line("/read -").contains("1 file is dropped"));
    assert!(!terminal.line("/show info").contains("big.txt"));
    assert!(terminal.line("What is your name?").contains("Tulu"));
    assert!(terminal.line("/show prompt").contains("Hello\r\n"), "the conversation is as it was");
    // Without a file it is the message that is too long, also where nothing is dropped.
    let refused = terminal.line(&"word ".repeat(1500));
    assert!(refused.contains("shorten it, or give a larger -c") && !refused.contains("/read -"), "{refused}");
    assert!(terminal.line("/read small.txt").contains("small.txt: 1 line goes before"));
    terminal.line("Thanks");
    assert!(terminal.line("/show prompt").contains("<|user|>\r\nBe brief.\r\n\r\nThanks\r\n"));
    leaves(terminal);
    let mut terminal = chat(&folder, &["-c", "256", "--on-overflow", "error"]);
    let refused = terminal.line(&"word ".repeat(400));
    assert!(refused.contains("the message alone") && !refused.contains("/clear"), "{refused}");
    leaves(terminal);
}

#[test]
fn paths_are_read_as_a_shell_and_the_tab_key_write_them() {
    let folder = folder();
    let home = folder.path().join("home");
    fs::write(folder.path().join("my notes.txt"), "Hello\n").unwrap();
    fs::write(home.join("at home.txt"), "Hello\n").unwrap();
    let mut terminal = chat(&folder, &["-n", "4"]);
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
    // An exported file is as readable as any: the umask decides.
    let other = home.join("other");
    fs::write(&other, "").unwrap();
    assert_eq!(mode(&home.join("a b.md")), mode(&other));
    assert!(home.join("c d.md").exists());
    leaves(terminal);
}

#[test]
fn ctrl_c_clears_the_line_and_the_up_arrow_brings_it_back() {
    let folder = folder();
    let mut terminal = chat(&folder, &["-n", "4"]);
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
    // Changed, and cleared again: it is the line as it stood.
    let mark = terminal.raw.len();
    terminal.keys("?\x03");
    terminal.prompt_after(mark);
    let said = terminal.line("\x1b[A");
    assert!(said.contains("What is your name?"), "{said}");
    assert!(terminal.line("/show prompt").contains("<|user|>\r\nWhat is your name?\r\n"));
    // On an empty line the first one asks, the second leaves.
    let mark = terminal.raw.len();
    terminal.keys("\x03");
    terminal.text_after(mark, "Ctrl-C again, Ctrl-D or /exit leaves");
    terminal.prompt_after(mark);
    terminal.keys("\x03");
    assert_eq!(terminal.ended(), 130);
}

#[test]
fn what_nobody_saved_is_kept_as_the_last_conversation() {
    let folder = folder();
    let last = folder.path().join("kept/last.json");
    let question = "What is the capital of France?";
    let kept = || fs::read_to_string(&last).unwrap();
    let none = crate::support::run(&mut command(folder.path(), &["--continue", "-p", "x"]), b"");
    assert!(crate::support::last_line(&none).contains("no conversation was kept yet"), "{none:?}");
    assert_eq!(none.status.code(), Some(2));
    // Nothing said, nothing kept.
    leaves(chat(&folder, &[]));
    assert!(!last.exists());
    // By Ctrl-D.
    let mut terminal = chat(&folder, &[]);
    terminal.line(question);
    assert!(leaves(terminal).contains("`tulu-quant chat --continue` goes on with it"));
    assert!(kept().contains(question) && mode(&last) == 0o600);
    // Going on: by a flag, a name, with -p.
    let mut terminal = chat(&folder, &["--continue"]);
    assert!(terminal.screen().contains("1 turn; it is read again"), "{}", terminal.screen());
    assert!(terminal.line("And of Italy?").contains("Rome"));
    assert!(terminal.line("/save").contains("give it a name"));
    assert!(terminal.line("/save last").contains("give another name"));
    leaves(terminal);
    assert!(kept().contains("And of Italy?"));
    let answer = crate::support::run(&mut command(folder.path(), &["--load", "last", "-p", "Thanks"]), b"");
    assert!(answer.status.success(), "{answer:?}");
    // What was saved, cleared or not gone on with leaves it as it is.
    let before = kept();
    let mut terminal = chat(&folder, &["--continue"]);
    terminal.line("Hello");
    terminal.line("/save trip");
    leaves(terminal);
    let mut terminal = chat(&folder, &[]);
    terminal.line("Hello");
    terminal.line("/clear");
    leaves(terminal);
    leaves(chat(&folder, &["--load", "trip"]));
    let mut terminal = chat(&folder, &["--no-history"]);
    terminal.line("Secret");
    assert!(!leaves(terminal).contains("--continue"));
    assert_eq!(kept(), before);
    // The newest is the one that was saved last.
    let mut terminal = chat(&folder, &["--continue"]);
    assert!(terminal.screen().contains("3 turns; "), "{}", terminal.screen());
    assert!(terminal.line("/save").contains("trip.json"));
    leaves(terminal);
    // A signal is no reason to lose it.
    for (signal, word) in [(Signal::SIGTERM, "By TERM"), (Signal::SIGHUP, "By HUP")] {
        let mut terminal = chat(&folder, &[]);
        terminal.line(word);
        terminal.signal(signal);
        match signal {
            Signal::SIGTERM => assert_eq!(terminal.ended(), 143),
            _ => assert_eq!(terminal.killed(), signal),
        }
        assert!(kept().contains(word), "{}", kept());
    }
    let mut terminal = chat(&folder, &[]);
    terminal.line("By key");
    let mark = terminal.raw.len();
    terminal.keys("\x03");
    terminal.text_after(mark, "Ctrl-C again");
    terminal.prompt_after(mark);
    terminal.keys("\x03");
    assert_eq!(terminal.ended(), 130);
    assert!(kept().contains("By key"));
}

#[test]
fn a_terminal_that_vanishes_ends_an_answer_too() {
    let folder = folder();
    let mut terminal = chat(&folder, &["--temp", "5", "--top-k", "0", "--top-p", "1", "-n", "-1", "-s", "2"]);
    terminal.line("/set n 3");
    terminal.line("First");
    terminal.line("/set n -1");
    terminal.keys("Tell me a story.\r");
    terminal.cooked();
    let begun = terminal.raw.len();
    terminal.until("an answer", |terminal| terminal.raw.len() > begun + 40);
    terminal.signal(Signal::SIGHUP);
    assert_eq!(terminal.killed(), Signal::SIGHUP);
    let kept = fs::read_to_string(folder.path().join("kept/last.json")).unwrap();
    assert!(kept.contains("First"), "{kept}");
}

#[test]
fn the_history_can_be_left_out() {
    let folder = folder();
    let file = folder.path().join("cache/chat_history");
    for (args, variable) in [(&["--no-history"][..], ""), (&[], "1"), (&[], "yes")] {
        let mut quiet = command(folder.path(), args);
        quiet.env("TULU_QUANT_NO_HISTORY", variable);
        let mut terminal = Terminal::chat(quiet, 30, 100);
        terminal.line("/last");
        leaves(terminal);
        assert!(!file.exists(), "{args:?} {variable}");
    }
    let mut terminal = chat(&folder, &[]);
    terminal.line(" /last");
    terminal.line("/set");
    leaves(terminal);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("/set\n") && !text.contains("/last"), "{text}");
    assert_eq!(mode(&file), 0o600);
    // One that cannot be read is said once, and is no reason not to talk.
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let mut terminal = chat(&folder, &["-n", "4"]);
    assert_eq!(terminal.screen().matches("what is typed is not kept").count(), 1, "{}", terminal.screen());
    assert!(terminal.line("Hello").len() > 5);
    assert!(!terminal.line("Hello").contains("is not kept"));
    leaves(terminal);
}

#[test]
fn what_was_meant_is_said() {
    let folder = folder();
    let mut terminal = chat(&folder, &["-n", "8"]);
    for (line, words) in [
        ("/usr/bin/env is what?", "put \"\"\" round it: \"\"\"/usr/bin/env is what?\"\"\""),
        ("exit", "the command is /exit; to send the word, put \"\"\" round it"),
        ("quit", "the command is /quit"),
        ("help", "the command is /help"),
        ("/set temperature", "temperature is 0; 0 takes the likeliest token always"),
        ("/set parameter", "repeat_last_n      how many of the last tokens"),
        ("/set num_ctx 4096", "leave, and give -c N"),
        ("/set overflow", "overflow is drop-oldest"),
        ("/load nothing", "there is no saved conversation 'nothing'; there is: none is saved yet"),
    ] {
        let said = terminal.line(line);
        assert!(said.contains(words), "{line}: {said}");
    }
    assert!(terminal.line("/show info").contains("turns     0"));
    terminal.line("\"\"\"exit\"\"\"");
    assert!(terminal.line("/show prompt").contains("<|user|>\r\nexit\r\n"));
    terminal.line("/save trip");
    assert!(terminal.line("/load nothing").contains("there is: trip"));
    leaves(terminal);
}

#[test]
fn an_overflow_counts_all_turns_that_are_gone() {
    let folder = folder();
    let mut terminal = chat(&folder, &["-c", "256", "-n", "16"]);
    let mut counts = Vec::new();
    for turn in 0..24 {
        let said = terminal.line(&format!("Question {turn}: what is the capital of France, and what of Italy?"));
        if let Some((_, rest)) = said.split_once("no longer sees the ") {
            counts.push(rest.split(' ').next().unwrap().parse::<usize>().unwrap());
            let info = terminal.line("/show info");
            assert!(info.contains(&format!("the {} oldest turn", counts[counts.len() - 1])), "{counts:?}: {info}");
        }
    }
    assert!(counts.len() > 1 && counts.is_sorted(), "{counts:?}");
    leaves(terminal);
}

#[test]
fn a_signal_that_was_ignored_stays_ignored() {
    let folder = folder();
    for signal in ["INT", "TERM", "HUP"] {
        let program = command(folder.path(), &["-p", "Tell me a story.", "--temp", "5", "-n", "-1", "-s", "2"]);
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("trap '' {signal}; exec \"$0\" \"$@\"")).arg(program.get_program());
        shell.args(program.get_args()).current_dir(folder.path());
        shell.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
        let mut child = shell.spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        std::io::Read::read_exact(&mut stdout, &mut [0; 5]).unwrap();
        for _ in 0..2 {
            Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status().unwrap();
        }
        std::io::copy(&mut stdout, &mut std::io::sink()).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{signal}");
    }
}
