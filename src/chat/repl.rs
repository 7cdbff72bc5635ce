//! The interactive loop: reads an input, runs it, prints the answer and notes. Prompt and notes go to the terminal,
//! never to a redirected stdout.

use super::answer_writer::AnswerWriter;
use super::commands;
use super::conversation::Conversation;
use super::input::{Input, parse};
use super::line_editor::{Editor, InputEvent};
use super::parameters::Parameters;
use super::saved::Saved;
use super::session::{Flags, Habits, Next, Session, one_line_of};
use super::unsaved::{self, Unsaved};
use crate::error::{Code, Exit, Failure};
use crate::interrupt::Interrupt;
use crate::platform::{self, Signal, TerminalState, is_raw};
use crate::stderr::dim as note;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Runs an interactive conversation until the user leaves. Resumes `saved`, if given, with `parameters`.
pub(crate) fn run(
    chat: &mut Conversation<'_>,
    saved: Option<(PathBuf, Saved)>,
    parameters: Parameters,
    habits: Habits,
    out: &mut AnswerWriter,
) -> Result<Exit, Failure> {
    let mut file = None;
    if let Some((path, saved)) = saved {
        commands::restore(chat, saved, parameters)?;
        file = Some(path).filter(|path| !unsaved::is_last(path));
    }
    let (flags, kept) = (Arc::new(Flags::default()), Unsaved::default());
    guard_the_terminal(chat.interrupt.clone(), flags.clone(), kept.clone())
        .map_err(|err| Failure::machine(Code::Terminal, format!("cannot watch the terminal: {err}"), "use -p TEXT"))?;
    let editor = Editor::new(commands::complete, habits.history)?;
    note(&format!("context {} tokens; /help for commands, Ctrl-D to leave", chat.n_ctx()));
    let attached = Vec::new();
    let unsaved = kept.clone();
    let ended = read_inputs(&mut Session {
        chat,
        out,
        editor,
        habits,
        file,
        attached,
        unsaved: false,
        last: None,
        flags,
        unsaved_text: unsaved,
    });
    match kept.save() {
        Some(Ok(_)) => note("the conversation is kept; `tulu-quant chat --continue` resumes it"),
        Some(Err(failure)) => note(&format!("the conversation could not be kept: {}", one_line_of(&failure))),
        None => {}
    }
    ended
}

/// Reads and runs inputs until the user leaves.
fn read_inputs(session: &mut Session<'_, '_>) -> Result<Exit, Failure> {
    // Whether the last input was Ctrl-C; a second Ctrl-C leaves.
    let mut asked = false;
    loop {
        let typed = session.editor.read()?;
        session.flags.stopped.store(false, Ordering::SeqCst);
        let next = match typed {
            InputEvent::End => return Ok(Exit::Done),
            InputEvent::Interrupted if asked => return Ok(Exit::Interrupted),
            InputEvent::Interrupted => {
                note("press Ctrl-C again, Ctrl-D or /exit to quit");
                asked = true;
                continue;
            }
            InputEvent::Cleared => Next::Prompt,
            InputEvent::InvalidUtf8 => {
                note("the input is not valid UTF-8; it was not sent");
                Next::Prompt
            }
            InputEvent::Text(text) => input(session, &text)?,
        };
        // Without the model file there is no fingerprint, and the conversation cannot be saved.
        let unsaved = session.unsaved && session.habits.history && session.chat.turns() > 0;
        session.unsaved_text.set(unsaved.then(|| session.chat.text().ok()).flatten());
        if let Next::Leave(exit) = next {
            return Ok(exit);
        }
        asked = session.flags.stopped.load(Ordering::SeqCst);
        match session.chat.interrupt.asked() {
            Some(exit) if asked => return Ok(exit),
            // From here on, the signal thread treats a Ctrl-C as the second one and quits.
            None if asked => {}
            _ => session.chat.interrupt.obeyed(),
        }
    }
}

/// Runs one input: a message or a slash command.
fn input(session: &mut Session<'_, '_>, text: &str) -> Result<Next, Failure> {
    match parse(text, |word| commands::find(word).is_some()) {
        Input::Empty => Ok(Next::Prompt),
        Input::Message(word @ ("exit" | "quit" | "bye" | "help")) if !text.contains("\"\"\"") => {
            note(&format!("the command is /{word}; to send the word, put \"\"\" around it"));
            Ok(Next::Prompt)
        }
        Input::Message(text) => session.message(text.to_owned()),
        Input::Command(word, text) => match commands::run(session, word, text) {
            // A failed command does not end the session.
            Err(failure) if failure.exit != Exit::Engine => {
                note(&one_line_of(&failure));
                Ok(Next::Prompt)
            }
            done => done,
        },
    }
}

/// Reacts to signals while the editor waits for a key and nothing looks at [`Interrupt`]:
///
/// | signal | during an answer | at the prompt |
/// |---|---|---|
/// | SIGINT | stops the answer (through [`Interrupt`]) | ignored: the key Ctrl-C is a character there |
/// | SIGINT after one that stopped an answer, before the next input | – | leaves with 130 |
/// | SIGTERM | stops the answer, then the loop leaves with 143 | leaves with 143 |
/// | SIGHUP | leaves as the system would | leaves as the system would |
///
/// Before the thread ends the process, it saves the unsaved conversation and restores the terminal. Signals that were
/// ignored when the program started stay ignored.
fn guard_the_terminal(interrupt: Interrupt, flags: Arc<Flags>, kept: Unsaved) -> std::io::Result<()> {
    let before = TerminalState::save()?;
    crate::defect::terminal(&before);
    let signals = interrupt.listen()?;
    std::thread::Builder::new().name("guard".to_owned()).spawn(move || {
        for signal in signals {
            let answering = flags.answering.load(Ordering::SeqCst);
            // A Ctrl-C that stopped the answer was obeyed, even if it is received only now.
            let second = !answering && flags.stopped.load(Ordering::SeqCst) && interrupt.asked().is_some();
            if signal == Signal::CtrlC && !second && is_raw() {
                interrupt.obeyed();
            }
            if signal != Signal::Hangup && answering || signal == Signal::CtrlC && !second {
                continue;
            }
            let _ = kept.save();
            before.restore();
            if signal == Signal::Hangup {
                platform::end_as_hangup();
            }
            // Ends the bracketed paste mode that the editor turned on.
            let _ = std::io::stderr().write_all(b"\x1b[?2004l\n");
            let exit = if signal == Signal::CtrlC { Exit::Interrupted } else { Exit::Terminated };
            platform::exit_now(exit as i32);
        }
    })?;
    Ok(())
}
