//! A conversation on a terminal: what the slash commands and the loop in `repl.rs` act on.

use super::answer_writer::AnswerWriter;
use super::conversation::{ALONE, Conversation};
use super::external_editor;
use super::input::marker_warning;
use super::line_editor::Editor;
use super::unsaved::Unsaved;
use crate::decode::{Answer, FinishReason};
use crate::error::{Code, Exit, Failure};
use crate::sanitize::one_line;
use crate::stderr;
use crate::stderr::dim as note;
use crate::table::count;
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
    pub(super) chat: &'c mut Conversation<'m>,
    pub(super) out: &'c mut AnswerWriter,
    pub(super) editor: Editor,
    pub(super) habits: Habits,
    /// Where the conversation was saved to or loaded from.
    pub(super) file: Option<PathBuf>,
    /// Files for the next message, with their text.
    pub(super) attached: Vec<(PathBuf, String)>,
    /// Something was said, or taken back, that no file has.
    pub(super) unsaved: bool,
    pub(super) last: Option<String>,
    pub(super) flags: Arc<Flags>,
    pub(super) unsaved_text: Unsaved,
}

/// What the thread that listens to signals has to know.
#[derive(Debug, Default)]
pub(super) struct Flags {
    /// An answer is being made, so SIGTERM is looked at.
    pub(super) answering: AtomicBool,
    /// Ctrl-C stopped the last answer and nothing was typed since: another one leaves.
    pub(super) stopped: AtomicBool,
}

impl Session<'_, '_> {
    /// One message and its answer.
    pub(super) fn message(&mut self, text: String) -> Result<Next, Failure> {
        let files = self.attached.iter().map(|(_, file)| format!("{file}\n\n"));
        let text = files.chain([text]).collect::<String>();
        if let Some(warning) = marker_warning(&text) {
            note(&warning);
        }
        let answer = self.interruptible(|chat, out| chat.send(text.clone(), out).map(Some));
        match &answer {
            Ok(Some(answer)) if answer.reason == FinishReason::Interrupted && answer.text.is_empty() => {
                note("stopped before the answer; the message is taken back (the up arrow brings it)");
            }
            Ok(_) => self.attached.clear(),
            Err(_) => {}
        }
        self.report_answer(answer)
    }

    /// The last message answered again.
    pub(super) fn regenerate(&mut self) -> Result<Next, Failure> {
        if self.chat.parameters.sampling.temperature == 0.0 {
            note("the temperature is 0: the answer will be the same");
        }
        let answer = self.interruptible(|chat, out| chat.regenerate(out));
        match &answer {
            Ok(None) => note("there is no answer to make again"),
            Ok(Some(answer)) if answer.reason == FinishReason::Interrupted && answer.text.is_empty() => {
                note("stopped; the answer there was stays");
            }
            _ => {}
        }
        self.report_answer(answer)
    }

    /// A message from the user's editor.
    pub(super) fn edit(&mut self, text: &str) -> Result<Next, Failure> {
        let text = external_editor::edit(text)?;
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
    pub(super) fn last_usage(&self) -> String {
        self.last.clone().unwrap_or_else(|| "there was no answer yet".to_owned())
    }

    /// Has `work` make an answer, which Ctrl-C stops, also one that came right behind the input.
    fn interruptible(
        &mut self,
        work: impl FnOnce(&mut Conversation<'_>, &mut AnswerWriter) -> Result<Option<Answer>, Failure>,
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
    fn report_answer(&mut self, answer: Result<Option<Answer>, Failure>) -> Result<Next, Failure> {
        match answer {
            Ok(Some(answer)) => {
                self.out.end_line()?;
                let (took, end) = (usage_text(&answer, self.chat.n_ctx()), cutoff_text(&answer, self.chat.n_ctx()));
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
            Err(failure) if failure.exit == Exit::Input => note(&one_line_of(&failure)),
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
pub(super) fn one_line_of(failure: &Failure) -> String {
    let file = failure.file.as_ref().map(|file| format!("{}: ", file.display())).unwrap_or_default();
    one_line(&format!("{file}{}; {}", failure.what, failure.fix))
}

/// What an answer took.
fn usage_text(answer: &Answer, n_ctx: usize) -> String {
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
fn cutoff_text(answer: &Answer, n_ctx: usize) -> &'static str {
    let used = answer.usage.prompt_tokens + answer.usage.completion_tokens;
    match answer.reason {
        FinishReason::Stop => "",
        FinishReason::Length if used >= n_ctx => "the window is full",
        FinishReason::Length => "cut: num_predict (-n) allows no more",
        FinishReason::Interrupted => "stopped",
    }
}
