//! The interactive loop: an input in, an answer out, a line about it. Prompt and notes go to the terminal, never to a
//! redirected stdout.

use super::commands;
use super::editor::{Editor, Typed};
use super::keep::Unsaved;
use super::line::{Line, parse, warning};
use super::talk::{ALONE, Chat};
use super::{Output, external, note};
use crate::decode::{Answer, FinishReason};
use crate::error::{Code, Exit, Failure};
use crate::interrupt::{Interrupt, ignored};
use crate::sanitize::one_line;
use crate::stderr;
use crate::table::count;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What happens after an input.
pub(super) enum Next {
    /// The next one.
    Prompt,
    /// The session is over.
    Leave(Exit),
}

/// How a user likes to talk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    /// Tokens and speed after every answer.
    pub(crate) verbose: bool,
    /// What is typed is kept for the arrow keys, and a conversation that is left without /save as the last one.
    pub(crate) history: bool,
}

/// A conversation on a terminal.
pub(super) struct Session<'c, 'm> {
    pub(super) chat: &'c mut Chat<'m>,
    pub(super) out: &'c mut Output,
    pub(super) editor: Editor,
    pub(super) habits: Habits,
    /// Where the conversation was saved to or loaded from.
    pub(super) file: Option<PathBuf>,
    /// Files for the next message, with their text.
    pub(super) attached: Vec<(PathBuf, String)>,
    /// Something was said, or taken back, that no file has.
    pub(super) unsaved: bool,
    last: Option<String>,
    flags: Arc<Flags>,
    kept: Unsaved,
}

/// What the thread that listens to signals has to know.
#[derive(Debug, Default)]
struct Flags {
    /// An answer is being made, so SIGTERM is looked at.
    answering: AtomicBool,
    /// Ctrl-C stopped the last answer and nothing was typed since: another one leaves.
    stopped: AtomicBool,
}

/// Reads inputs until the user leaves. `file`: where the conversation was loaded from.
pub(super) fn run(
    chat: &mut Chat<'_>,
    out: &mut Output,
    habits: Habits,
    file: Option<PathBuf>,
) -> Result<Exit, Failure> {
    let (flags, kept) = (Arc::new(Flags::default()), Unsaved::default());
    guard_the_terminal(chat.interrupt.clone(), flags.clone(), kept.clone())
        .map_err(|err| Failure::machine(Code::Terminal, format!("cannot watch the terminal: {err}"), "use -p TEXT"))?;
    let editor = Editor::new(commands::complete, habits.history)?;
    note(&format!("window {} tokens; /help for commands, Ctrl-D to leave", chat.n_ctx()));
    let attached = Vec::new();
    let ended =
        Session { chat, out, editor, habits, file, attached, unsaved: false, last: None, flags, kept: kept.clone() }
            .run();
    match kept.keep() {
        Some(Ok(_)) => note("the conversation is kept; `tulu-quant chat --continue` goes on with it"),
        Some(Err(failure)) => note(&format!("the conversation could not be kept: {}", said(&failure))),
        None => {}
    }
    ended
}

impl Session<'_, '_> {
    fn run(&mut self) -> Result<Exit, Failure> {
        // Whether the last thing was a Ctrl-C: the second one leaves.
        let mut asked = false;
        loop {
            let typed = self.editor.read()?;
            self.flags.stopped.store(false, Ordering::SeqCst);
            let next = match typed {
                Typed::End => return Ok(Exit::Done),
                Typed::Interrupted if asked => return Ok(Exit::Interrupted),
                Typed::Interrupted => {
                    note("Ctrl-C again, Ctrl-D or /exit leaves");
                    asked = true;
                    continue;
                }
                Typed::Cleared => Next::Prompt,
                Typed::Garbage => {
                    note("that was not UTF-8 text, and is not sent");
                    Next::Prompt
                }
                Typed::Text(text) => self.input(&text)?,
            };
            // Without the model's file there is nothing to know it by, and the conversation is not kept.
            let unsaved = self.unsaved && self.habits.history && self.chat.turns() > 0;
            self.kept.is(unsaved.then(|| self.chat.text().ok()).flatten());
            if let Next::Leave(exit) = next {
                return Ok(exit);
            }
            asked = self.flags.stopped.load(Ordering::SeqCst);
            match self.chat.interrupt.asked() {
                Some(exit) if asked => return Ok(exit),
                // One that comes now is the second: the thread that listens to signals leaves.
                None if asked => {}
                _ => self.chat.interrupt.obeyed(),
            }
        }
    }

    fn input(&mut self, text: &str) -> Result<Next, Failure> {
        match parse(text, |word| commands::find(word).is_some()) {
            Line::Empty => Ok(Next::Prompt),
            Line::Message(word @ ("exit" | "quit" | "bye" | "help")) if !text.contains("\"\"\"") => {
                note(&format!("the command is /{word}; to send the word, put \"\"\" round it"));
                Ok(Next::Prompt)
            }
            Line::Message(text) => self.message(text.to_owned()),
            Line::Command(word, text) => match commands::run(self, word, text) {
                // A command that cannot do its work is no reason to stop talking.
                Err(failure) if failure.exit != Exit::Engine => {
                    note(&said(&failure));
                    Ok(Next::Prompt)
                }
                done => done,
            },
        }
    }

    /// One message and its answer.
    pub(super) fn message(&mut self, text: String) -> Result<Next, Failure> {
        let files = self.attached.iter().map(|(_, file)| format!("{file}\n\n"));
        let text = files.chain([text]).collect::<String>();
        if let Some(warning) = warning(&text) {
            note(&warning);
        }
        let answer = self.answered(|chat, out| chat.say(text.clone(), out).map(Some));
        match &answer {
            Ok(Some(answer)) if answer.reason == FinishReason::Interrupted && answer.text.is_empty() => {
                note("stopped before the answer; the message is taken back (the up arrow brings it)");
            }
            Ok(_) => self.attached.clear(),
            Err(_) => {}
        }
        self.turned(answer)
    }

    /// The last message answered again.
    pub(super) fn regenerate(&mut self) -> Result<Next, Failure> {
        if self.chat.parameters.sampling.temperature == 0.0 {
            note("the temperature is 0: the answer will be the same");
        }
        let answer = self.answered(|chat, out| chat.regenerate(out));
        match &answer {
            Ok(None) => note("there is no answer to make again"),
            Ok(Some(answer)) if answer.reason == FinishReason::Interrupted && answer.text.is_empty() => {
                note("stopped; the answer there was stays");
            }
            _ => {}
        }
        self.turned(answer)
    }

    /// A message from the user's editor.
    pub(super) fn edit(&mut self, text: &str) -> Result<Next, Failure> {
        let text = external::edit(text)?;
        let text = text.trim();
        if text.is_empty() {
            note("nothing was written, so nothing is sent");
            return Ok(Next::Prompt);
        }
        self.editor.remember(text);
        stderr::block(&format!("{text}\n"));
        self.message(text.to_owned())
    }

    /// What the last answer took.
    pub(super) fn last(&self) -> String {
        self.last.clone().unwrap_or_else(|| "there was no answer yet".to_owned())
    }

    /// Has `work` make an answer, which Ctrl-C stops, also one that came right behind the input.
    fn answered(
        &mut self,
        work: impl FnOnce(&mut Chat<'_>, &mut Output) -> Result<Option<Answer>, Failure>,
    ) -> Result<Option<Answer>, Failure> {
        self.flags.answering.store(true, Ordering::SeqCst);
        let answer = work(self.chat, self.out);
        // From here on another Ctrl-C is the second one, also before the editor has the terminal.
        if self.chat.interrupt.asked() == Some(Exit::Interrupted) {
            self.chat.interrupt.obeyed();
            self.flags.stopped.store(true, Ordering::SeqCst);
        }
        self.flags.answering.store(false, Ordering::SeqCst);
        answer
    }

    /// What is to be said about an answer, and whether the session goes on.
    fn turned(&mut self, answer: Result<Option<Answer>, Failure>) -> Result<Next, Failure> {
        match answer {
            Ok(Some(answer)) => {
                self.out.end_line()?;
                let (took, end) = (took(&answer, self.chat.n_ctx()), end(&answer, self.chat.n_ctx()));
                if self.habits.verbose {
                    note(&format!("{took}{}{end}", if end.is_empty() { "" } else { " · " }));
                } else if !end.is_empty() && !answer.text.is_empty() {
                    note(end);
                }
                self.last = Some(took);
                self.unsaved = true;
            }
            Ok(None) => {}
            Err(failure) if failure.code == Code::ContextLength => {
                let drop = if self.attached.is_empty() { "" } else { "/read - drops what was read; " };
                note(&one_line(&match failure.what.starts_with(ALONE) {
                    true => format!("{}; {drop}{}", failure.what, failure.fix),
                    false => {
                        format!("the conversation no longer fits: {}; {drop}/clear begins a new one", failure.what)
                    }
                }));
            }
            // What was typed cannot be said; the session goes on.
            Err(failure) if failure.exit == Exit::Input => note(&said(&failure)),
            Err(failure) => return Err(failure),
        }
        match self.chat.interrupt.asked() {
            Some(Exit::Terminated) => Ok(Next::Leave(Exit::Terminated)),
            _ if self.out.closed() => Ok(Next::Leave(Exit::Done)),
            _ => Ok(Next::Prompt),
        }
    }
}

/// A failure that does not end the session.
fn said(failure: &Failure) -> String {
    let file = failure.file.as_ref().map(|file| format!("{}: ", file.display())).unwrap_or_default();
    one_line(&format!("{file}{}; {}", failure.what, failure.fix))
}

/// What an answer took.
fn took(answer: &Answer, n_ctx: usize) -> String {
    let usage = &answer.usage;
    format!(
        "prompt {} new + {} cached, {:.1} t/s · answer {}, {:.1} t/s · window {}/{n_ctx}",
        usage.prompt_tokens - usage.cached_tokens,
        usage.cached_tokens,
        usage.prefill_speed(),
        count(usage.completion_tokens, "token", "tokens"),
        usage.generation_speed(),
        usage.prompt_tokens + usage.completion_tokens,
    )
}

/// Why an answer is shorter than the model wanted; nothing when it is not.
fn end(answer: &Answer, n_ctx: usize) -> &'static str {
    let used = answer.usage.prompt_tokens + answer.usage.completion_tokens;
    match answer.reason {
        FinishReason::Stop => "",
        FinishReason::Length if used >= n_ctx => "the window is full",
        FinishReason::Length => "cut: num_predict (-n) allows no more",
        FinishReason::Interrupted => "stopped",
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
            let _ = kept.keep();
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
