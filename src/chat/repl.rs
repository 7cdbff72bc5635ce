//! The interactive loop: an input in, an answer out, a line about it. Prompt and notes go to the terminal, never to a
//! redirected stdout.

use super::commands;
use super::editor::{Editor, Typed};
use super::line::{Line, parse, warning};
use super::talk::Chat;
use super::{Output, external, note};
use crate::decode::{Answer, Reason};
use crate::error::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::sanitize::one_line;
use crate::stderr;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGINT, SIGTERM};
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

/// A conversation on a terminal.
pub(super) struct Session<'c, 'm> {
    pub(super) chat: &'c mut Chat<'m>,
    pub(super) out: &'c mut Output,
    pub(super) editor: Editor,
    /// Tokens and speed after every answer.
    pub(super) verbose: bool,
    /// Where the conversation was saved to or loaded from.
    pub(super) file: Option<PathBuf>,
    /// Text of files, for the next message.
    pub(super) attached: String,
    last: Option<String>,
    flags: Arc<Flags>,
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
    verbose: bool,
    file: Option<PathBuf>,
) -> Result<Exit, Failure> {
    let flags = Arc::new(Flags::default());
    guard_the_terminal(chat.interrupt.clone(), flags.clone())
        .map_err(|err| Failure::machine("TERMINAL", format!("cannot use the terminal: {err}"), "use -p TEXT"))?;
    let editor = Editor::new(commands::complete)?;
    note(&format!("window {} tokens; /help for commands, Ctrl-D to leave", chat.n_ctx()));
    let attached = String::new();
    Session { chat, out, editor, verbose, file, attached, last: None, flags }.run()
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
                Typed::Garbage => {
                    note("that was not UTF-8 text, and is not sent");
                    Next::Prompt
                }
                Typed::Text(text) => self.input(&text)?,
            };
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
        let text = format!("{}{text}", self.attached);
        if let Some(warning) = warning(&text) {
            note(&warning);
        }
        let answer = self.answered(|chat, out| chat.say(text.clone(), out).map(Some));
        match &answer {
            Ok(Some(answer)) if answer.reason == Reason::Interrupted && answer.text.is_empty() => {
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
            Ok(Some(answer)) if answer.reason == Reason::Interrupted && answer.text.is_empty() => {
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
                if self.verbose {
                    note(&format!("{took}{}{end}", if end.is_empty() { "" } else { " · " }));
                } else if !end.is_empty() && !answer.text.is_empty() {
                    note(end);
                }
                self.last = Some(took);
            }
            Ok(None) => {}
            Err(failure) if failure.code == "CONTEXT_LENGTH" => {
                note(&format!("the conversation no longer fits: {}; /clear begins a new one", one_line(&failure.what)));
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
        "prompt {} new + {} cached, {:.1} t/s · answer {} tokens, {:.1} t/s · window {}/{n_ctx}",
        usage.prompt_tokens - usage.cached_tokens,
        usage.cached_tokens,
        usage.prefill_speed(),
        usage.completion_tokens,
        usage.generation_speed(),
        usage.prompt_tokens + usage.completion_tokens,
    )
}

/// Why an answer is shorter than the model wanted; nothing when it is not.
fn end(answer: &Answer, n_ctx: usize) -> &'static str {
    let used = answer.usage.prompt_tokens + answer.usage.completion_tokens;
    match answer.reason {
        Reason::Stop => "",
        Reason::Length if used >= n_ctx => "the window is full",
        Reason::Length => "cut: num_predict (-n) allows no more",
        Reason::Interrupted => "stopped",
    }
}

/// At the prompt the terminal is in raw mode and nobody looks at [`Interrupt`]: SIGTERM puts the terminal back as it was
/// and leaves, there is nothing else to put in order; so does the second Ctrl-C when it comes just before the editor has
/// the terminal. Another SIGINT (the key is only a character in raw mode) is forgotten, so that a second one does not
/// leave with the terminal as it is.
fn guard_the_terminal(interrupt: Interrupt, flags: Arc<Flags>) -> std::io::Result<()> {
    let before = tcgetattr(std::io::stdin())?;
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            let raw = tcgetattr(std::io::stdin()).is_ok_and(|now| !now.local_modes.contains(LocalModes::ISIG));
            let answering = flags.answering.load(Ordering::SeqCst);
            // One that stopped the answer was obeyed, even if it is heard of only now.
            let second = !answering && flags.stopped.load(Ordering::SeqCst) && interrupt.asked().is_some();
            if signal == SIGINT && raw && !second {
                interrupt.obeyed();
            }
            if answering || signal == SIGINT && !second {
                continue;
            }
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &before);
            // The editor had the terminal mark what is pasted.
            let _ = std::io::stderr().write_all(b"\x1b[?2004l\n");
            let exit = if signal == SIGINT { Exit::Interrupted } else { Exit::Terminated };
            signal_hook::low_level::exit(exit as i32);
        }
    });
    Ok(())
}
