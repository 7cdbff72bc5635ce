//! The interactive loop: a line in, an answer out, a line about it. Prompt and notes go to the terminal, never to a
//! redirected stdout.

use super::line::{HELP, Line, parse};
use super::{Chat, Output};
use crate::decode::{Answer, Reason};
use crate::error::{Exit, Failure, one_line};
use rustix::termios::OptionalActions;
use rustyline::error::ReadlineError;
use rustyline::{Behavior, Config, DefaultEditor};
use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;

const PROMPT: &str = ">>> ";

/// Reads lines until the user leaves.
pub(super) fn run(chat: &mut Chat<'_>, out: &mut Output) -> Result<Exit, Failure> {
    let terminal = |err| Failure::machine("TERMINAL", format!("cannot use the terminal: {err}"), "use -p TEXT");
    // PreferTerm: the prompt goes to the terminal even when stdout is a file.
    let config = Config::builder().behavior(Behavior::PreferTerm).auto_add_history(true).build();
    leave_on_sigterm().map_err(|err| terminal(err.into()))?;
    let mut editor = DefaultEditor::with_config(config).map_err(terminal)?;
    // Without a place for it there is no history; that is no reason not to talk.
    let history = crate::model::cache::dir().map(|folder| folder.join("chat_history")).ok();
    if let Some(file) = &history {
        // A history that is not there yet, or not readable, is an empty one.
        let _ = editor.load_history(file);
    }
    note(&format!("window {} tokens; /help for commands, Ctrl-D to leave", chat.n_ctx()));
    loop {
        let line = match editor.readline(PROMPT) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => {
                note("Ctrl-D or /exit leaves");
                continue;
            }
            Err(ReadlineError::Eof) => return Ok(Exit::Done),
            Err(err) => return Err(terminal(err)),
        };
        if let Some(file) = &history {
            // Losing a line of history is no reason to stop talking.
            let _ = editor.append_history(file);
        }
        match parse(&line) {
            Line::Empty => {}
            Line::Help => eprintln!("{HELP}"),
            Line::Clear => {
                chat.clear();
                note("a new conversation");
            }
            Line::System(text) => {
                chat.set_system(text);
                note(if text.is_empty() { "a new conversation, no system message" } else { "a new conversation" });
            }
            Line::Exit => return Ok(Exit::Done),
            Line::Unknown(word) => note(&format!("there is no /{}; /help lists the commands", one_line(word))),
            Line::Message(text) => {
                if let Some(exit) = turn(chat, text, out)? {
                    return Ok(exit);
                }
            }
        }
    }
}

/// One message and its answer; an exit code when the session is over.
fn turn(chat: &mut Chat<'_>, text: &str, out: &mut Output) -> Result<Option<Exit>, Failure> {
    chat.interrupt.obeyed();
    match chat.say(text.to_owned(), out) {
        Ok(answer) => {
            out.end_line()?;
            note(&summary(&answer, chat.n_ctx()));
        }
        Err(failure) if failure.code == "CONTEXT_LENGTH" => {
            note(&format!("the conversation no longer fits: {}; /clear begins a new one", failure.what));
        }
        // What was typed cannot be said; the session goes on.
        Err(failure) if failure.exit == Exit::Input => note(&one_line(&format!("{}; {}", failure.what, failure.fix))),
        Err(failure) => return Err(failure),
    }
    match chat.interrupt.asked() {
        Some(Exit::Terminated) => Ok(Some(Exit::Terminated)),
        _ if out.closed() => Ok(Some(Exit::Done)),
        _ => {
            chat.interrupt.obeyed();
            Ok(None)
        }
    }
}

/// What an answer took, and why it is shorter than the model wanted.
fn summary(answer: &Answer, n_ctx: usize) -> String {
    let usage = &answer.usage;
    let used = usage.prompt_tokens + usage.completion_tokens;
    let end = match answer.reason {
        Reason::Stop => "",
        Reason::Length if used >= n_ctx => " · the window is full: /clear begins a new conversation",
        Reason::Length => " · cut: -n allows no more",
        Reason::Interrupted => " · stopped",
    };
    format!(
        "prompt {} new + {} cached, {:.1} t/s · answer {} tokens, {:.1} t/s · window {used}/{n_ctx}{end}",
        usage.prompt_tokens - usage.cached_tokens,
        usage.cached_tokens,
        usage.prefill_speed(),
        usage.completion_tokens,
        usage.generation_speed(),
    )
}

/// At the prompt the terminal is in raw mode and nobody looks at [`crate::interrupt`]: SIGTERM puts the terminal back as it
/// was and leaves. There is nothing else to put in order.
fn leave_on_sigterm() -> std::io::Result<()> {
    let before = rustix::termios::tcgetattr(std::io::stdin())?;
    let mut signals = Signals::new([SIGTERM])?;
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            let _ = rustix::termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &before);
            signal_hook::low_level::exit(Exit::Terminated as i32);
        }
    });
    Ok(())
}

/// A line about the conversation, in its own shade, on stderr.
fn note(text: &str) {
    eprintln!("{}", console::style(text).for_stderr().dim());
}
