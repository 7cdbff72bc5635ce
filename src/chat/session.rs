//! The state of an interactive conversation, and sending messages in it. The loop is in `repl.rs`, the slash commands
//! are in `commands/`; both act on a [`Session`].

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

/// The next step after an input.
pub(super) enum Next {
    /// Read the next input.
    Prompt,
    /// End the session.
    Leave(Exit),
}

/// Preferences of the user.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    /// Print tokens and speed after every answer.
    pub(crate) verbose: bool,
    /// Keep the input history, and save a conversation that is left without /save.
    pub(crate) history: bool,
}

/// An interactive conversation.
pub(super) struct Session<'c, 'm> {
    pub(super) chat: &'c mut Conversation<'m>,
    pub(super) out: &'c mut AnswerWriter,
    pub(super) editor: Editor,
    pub(super) habits: Habits,
    /// The file that the conversation was saved to or loaded from.
    pub(super) file: Option<PathBuf>,
    /// Files to add to the next message, and their text.
    pub(super) attached: Vec<(PathBuf, String)>,
    /// Whether the conversation changed since it was saved.
    pub(super) unsaved: bool,
    pub(super) last: Option<String>,
    pub(super) flags: Arc<Flags>,
    pub(super) unsaved_text: Unsaved,
}

/// State for the thread that handles signals.
#[derive(Debug, Default)]
pub(super) struct Flags {
    /// Whether an answer is being generated; the generation then checks for SIGTERM.
    pub(super) answering: AtomicBool,
    /// Whether Ctrl-C stopped the last answer and no input followed; another Ctrl-C then leaves.
    pub(super) stopped: AtomicBool,
}

impl Session<'_, '_> {
    /// Sends a message, with the attached files, and prints the answer.
    pub(super) fn message(&mut self, text: String) -> Result<Next, Failure> {
        let files = self.attached.iter().map(|(_, file)| format!("{file}\n\n"));
        let text = files.chain([text]).collect::<String>();
        if let Some(warning) = marker_warning(&text) {
            note(&warning);
        }
        let answer = self.interruptible(|chat, out| chat.send(text.clone(), out).map(Some));
        match &answer {
            Ok(Some(answer)) if answer.reason == FinishReason::Interrupted && answer.text.is_empty() => {
                note("stopped before the answer began; your message was removed (press the up arrow to edit it)");
            }
            Ok(_) => self.attached.clear(),
            Err(_) => {}
        }
        self.report_answer(answer)
    }

    /// Answers the last message again.
    pub(super) fn regenerate(&mut self) -> Result<Next, Failure> {
        if self.chat.parameters.sampling.temperature == 0.0 {
            note("the temperature is 0: the answer will be the same");
        }
        let answer = self.interruptible(|chat, out| chat.regenerate(out));
        match &answer {
            Ok(None) => note("there is no answer to regenerate"),
            Ok(Some(answer)) if answer.reason == FinishReason::Interrupted && answer.text.is_empty() => {
                note("stopped; the previous answer is kept");
            }
            _ => {}
        }
        self.report_answer(answer)
    }

    /// Sends a message written in the user's editor.
    pub(super) fn edit(&mut self, text: &str) -> Result<Next, Failure> {
        let text = external_editor::edit(text)?;
        let text = text.trim();
        if text.is_empty() {
            note("the message is empty; nothing was sent");
            return Ok(Next::Prompt);
        }
        self.editor.remember(text);
        stderr::block(&format!("{text}\n"));
        self.message(text.to_owned())
    }

    /// Returns tokens and speed of the last answer.
    pub(super) fn last_usage(&self) -> String {
        self.last.clone().unwrap_or_else(|| "there was no answer yet".to_owned())
    }

    /// Runs `work`, which generates an answer. Ctrl-C stops it, even if pressed just before `work` starts.
    fn interruptible(
        &mut self,
        work: impl FnOnce(&mut Conversation<'_>, &mut AnswerWriter) -> Result<Option<Answer>, Failure>,
    ) -> Result<Option<Answer>, Failure> {
        self.flags.answering.store(true, Ordering::SeqCst);
        let answer = work(self.chat, self.out);
        // From here on, another Ctrl-C counts as the second one, even before the editor reads the next input.
        if self.chat.interrupt.asked() == Some(Exit::Interrupted) {
            self.chat.interrupt.obeyed();
            self.flags.stopped.store(true, Ordering::SeqCst);
        }
        self.flags.answering.store(false, Ordering::SeqCst);
        answer
    }

    /// Prints notes about an answer, and decides whether the session continues.
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
                let drop = if self.attached.is_empty() { "" } else { "/read - removes the attached files; " };
                note(&one_line(&match failure.what.starts_with(ALONE) {
                    true => format!("{}; {drop}{}", failure.what, failure.fix),
                    false => {
                        format!("the conversation no longer fits: {}; {drop}/clear starts a new one", failure.what)
                    }
                }));
            }
            // Input errors do not end the session.
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

/// Formats a failure that does not end the session.
pub(super) fn one_line_of(failure: &Failure) -> String {
    let file = failure.file.as_ref().map(|file| format!("{}: ", file.display())).unwrap_or_default();
    one_line(&format!("{file}{}; {}", failure.what, failure.fix))
}

/// Formats tokens and speed of an answer.
fn usage_text(answer: &Answer, n_ctx: usize) -> String {
    let usage = &answer.usage;
    let drafts = usage.drafts.text().map(|text| format!(" · {text}")).unwrap_or_default();
    format!(
        "prompt {} new + {} cached, {:.1} t/s · answer {}, {:.1} t/s · context {}/{n_ctx}{drafts}",
        usage.prompt_tokens - usage.cached_tokens,
        usage.cached_tokens,
        usage.prefill_speed(),
        count(usage.completion_tokens, "token", "tokens"),
        usage.generation_speed(),
        usage.prompt_tokens + usage.completion_tokens,
    )
}

/// Returns why an answer was cut off; an empty text if it was not.
fn cutoff_text(answer: &Answer, n_ctx: usize) -> &'static str {
    let used = answer.usage.prompt_tokens + answer.usage.completion_tokens;
    match answer.reason {
        FinishReason::Stop => "",
        FinishReason::Length if used >= n_ctx => "the context is full",
        FinishReason::Length => "cut off at num_predict (-n) tokens",
        FinishReason::Interrupted => "stopped",
    }
}
