//! Ctrl-C and signals in `chat` on a terminal.

use crate::support::chat::{ENDLESS, chat_at, home, leave, leave_with_ctrl_c, on_terminal, on_terminal_at};
use rexpect::process::Signal;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn ctrl_c_stops_in_prefill_and_in_generation() {
    let (_folder, mut terminal) = on_terminal(&ENDLESS);
    terminal.line("/set temperature 0");
    terminal.line("Hello");
    // A prompt of about 900 tokens, stopped during prefill.
    let mark = terminal.raw.len();
    terminal.paste(&"word and word ".repeat(220));
    terminal.keys("\r");
    terminal.cooked();
    let asked = Instant::now();
    terminal.keys("\x03");
    terminal.prompt_after(mark);
    println!("stopped in prefill after {:?}", asked.elapsed());
    assert!(asked.elapsed() < Duration::from_secs(10));
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
    leave(terminal);
}

#[test]
fn ctrl_c_twice_exits_and_restores_the_terminal() {
    let (_folder, terminal) = on_terminal(&ENDLESS);
    leave_with_ctrl_c(terminal);

    let (_folder, mut terminal) = on_terminal(&ENDLESS);
    terminal.keys("Tell me a story.\r");
    terminal.cooked();
    let begun = terminal.raw.len();
    terminal.until("an answer", |terminal| terminal.raw.len() > begun + 40);
    let begun = terminal.raw.len();
    terminal.keys("\x03");
    // Two signals at once would count as one. After "stopped" the prompt may be there or not yet.
    terminal.text_after(begun, "stopped");
    terminal.keys("\x03");
    assert_eq!(terminal.ended(), 130);
}

#[test]
fn signals_exit_and_restore_the_terminal() {
    let (_folder, mut terminal) = on_terminal(&[]);
    // A signal from another process, not the key: it clears at most the typed line.
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
fn hangup_ends_an_answer() {
    let folder = home();
    let mut terminal = on_terminal_at(&folder, &["--temp", "5", "--top-k", "0", "--top-p", "1", "-n", "-1", "-s", "2"]);
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
fn ignored_signal_stays_ignored() {
    let folder = home();
    for signal in ["INT", "TERM", "HUP"] {
        let program = chat_at(&folder, &["-p", "Tell me a story.", "--temp", "5", "-n", "-1", "-s", "2"]);
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
