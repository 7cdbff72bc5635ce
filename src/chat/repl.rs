//! The interactive loop: an input in, an answer out, a line about it. Prompt and notes go to the terminal, never to a
//! redirected stdout.

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
use crate::interrupt::{Interrupt, ignored};
use crate::stderr::dim as note;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Runs an interactive conversation until the user leaves; continues `saved`, if there is one, under `parameters`.
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
    note(&format!("window {} tokens; /help for commands, Ctrl-D to leave", chat.n_ctx()));
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
        Some(Ok(_)) => note("the conversation is kept; `tulu-quant chat --continue` goes on with it"),
        Some(Err(failure)) => note(&format!("the conversation could not be kept: {}", one_line_of(&failure))),
        None => {}
    }
    ended
}

/// Reads and runs inputs until the user leaves.
fn read_inputs(session: &mut Session<'_, '_>) -> Result<Exit, Failure> {
    // Whether the last thing was a Ctrl-C: the second one leaves.
    let mut asked = false;
    loop {
        let typed = session.editor.read()?;
        session.flags.stopped.store(false, Ordering::SeqCst);
        let next = match typed {
            InputEvent::End => return Ok(Exit::Done),
            InputEvent::Interrupted if asked => return Ok(Exit::Interrupted),
            InputEvent::Interrupted => {
                note("Ctrl-C again, Ctrl-D or /exit leaves");
                asked = true;
                continue;
            }
            InputEvent::Cleared => Next::Prompt,
            InputEvent::InvalidUtf8 => {
                note("that was not UTF-8 text, and is not sent");
                Next::Prompt
            }
            InputEvent::Text(text) => input(session, &text)?,
        };
        // Without the model's file there is nothing to know it by, and the conversation is not kept.
        let unsaved = session.unsaved && session.habits.history && session.chat.turns() > 0;
        session.unsaved_text.set(unsaved.then(|| session.chat.text().ok()).flatten());
        if let Next::Leave(exit) = next {
            return Ok(exit);
        }
        asked = session.flags.stopped.load(Ordering::SeqCst);
        match session.chat.interrupt.asked() {
            Some(exit) if asked => return Ok(exit),
            // One that comes now is the second: the thread that listens to signals leaves.
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
            note(&format!("the command is /{word}; to send the word, put \"\"\" round it"));
            Ok(Next::Prompt)
        }
        Input::Message(text) => session.message(text.to_owned()),
        Input::Command(word, text) => match commands::run(session, word, text) {
            // A command that cannot do its work is no reason to stop talking.
            Err(failure) if failure.exit != Exit::Engine => {
                note(&one_line_of(&failure));
                Ok(Next::Prompt)
            }
            done => done,
        },
    }
}

/// Hears the signals that [`Interrupt`] cannot act on, because nobody looks at it while the editor waits for a key:
///
/// | signal | an answer is being made | at the prompt |
/// |---|---|---|
/// | SIGINT | stops it ([`Interrupt`] says so) | forgotten; the key is only a character there |
/// | SIGINT after one that stopped an answer, before the next input | – | leaves with 130 |
/// | SIGTERM | stops it, then the loop leaves with 143 | leaves with 143 |
/// | SIGHUP | leaves as the system would | leaves as the system would |
///
/// To leave is to keep the conversation that nobody saved, and to put the terminal back as it was. What was ignored when
/// the program started stays ignored.
fn guard_the_terminal(interrupt: Interrupt, flags: Arc<Flags>, kept: Unsaved) -> std::io::Result<()> {
    let before = tcgetattr(std::io::stdin())?;
    crate::defect::terminal(&before);
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| !ignored(*signal)))?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            let raw = tcgetattr(std::io::stdin()).is_ok_and(|now| !now.local_modes.contains(LocalModes::ISIG));
            let answering = flags.answering.load(Ordering::SeqCst);
            // One that stopped the answer was obeyed, even if it is heard of only now.
            let second = !answering && flags.stopped.load(Ordering::SeqCst) && interrupt.asked().is_some();
            if signal == SIGINT && raw && !second {
                interrupt.obeyed();
            }
            if signal != SIGHUP && answering || signal == SIGINT && !second {
                continue;
            }
            let _ = kept.save();
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &before);
            if signal == SIGHUP {
                let _ = signal_hook::low_level::emulate_default_handler(SIGHUP);
            }
            // The editor had the terminal mark what is pasted.
            let _ = std::io::stderr().write_all(b"\x1b[?2004l\n");
            let exit = if signal == SIGINT { Exit::Interrupted } else { Exit::Terminated };
            signal_hook::low_level::exit(exit as i32);
        }
    })?;
    Ok(())
}
