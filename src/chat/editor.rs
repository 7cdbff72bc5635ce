//! The line editor: the only module that names rustyline. History is kept across runs; a paste of many lines is one input;
//! Tab completes commands, their arguments and files.

use super::line::unfinished;
use crate::error::Failure;
use crate::sanitize::hazardous;
use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Behavior, ColorMode, CompletionType, Config, Context, Helper};
use std::borrow::Cow;
use std::path::PathBuf;

const PROMPT: &str = ">>> ";
/// Inputs that are remembered.
const HISTORY: usize = 1000;

/// What came of asking for an input.
pub(super) enum Typed {
    /// A line, or several.
    Text(String),
    /// Ctrl-C.
    Interrupted,
    /// Ctrl-D.
    End,
    /// Bytes that are no text.
    Garbage,
}

/// What could stand where the cursor is: words, or files.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Candidates {
    /// From this byte of the line on, one of these words.
    Words(usize, Vec<String>),
    /// From this byte on, the path of a file.
    Files(usize),
}

/// Says what could stand at the end of a line.
pub(super) type Complete = fn(line: &str) -> Candidates;

/// The line editor and its history.
pub(super) struct Editor {
    inner: rustyline::Editor<Assistant, FileHistory>,
    history: Option<PathBuf>,
}

impl Editor {
    /// Takes the history from the last runs.
    pub(super) fn new(complete: Complete) -> Result<Self, Failure> {
        // PreferTerm: the prompt goes to the terminal even when stdout is a file.
        let config = Config::builder()
            .behavior(Behavior::PreferTerm)
            .completion_type(CompletionType::List)
            // Not for colours, there are none: what makes pasted text harmless would not be asked otherwise.
            .color_mode(ColorMode::Forced)
            .auto_add_history(true)
            .max_history_size(HISTORY)
            .map_err(failed)?
            .build();
        let mut inner = rustyline::Editor::with_config(config).map_err(failed)?;
        inner.set_helper(Some(Assistant { complete, files: FilenameCompleter::new() }));
        // Without a place for it there is no history; that is no reason not to talk.
        let history = crate::model::cache::dir().map(|folder| folder.join("chat_history")).ok();
        if let Some(file) = &history {
            // A history that is not there yet, or not readable, is an empty one.
            let _ = inner.load_history(file);
        }
        Ok(Self { inner, history })
    }

    /// Asks for an input.
    pub(super) fn read(&mut self) -> Result<Typed, Failure> {
        let text = match self.inner.readline(PROMPT) {
            Ok(text) => text,
            Err(ReadlineError::Interrupted) => return Ok(Typed::Interrupted),
            Err(ReadlineError::Eof) => return Ok(Typed::End),
            Err(ReadlineError::Io(err)) if err.kind() == std::io::ErrorKind::InvalidData => return Ok(Typed::Garbage),
            Err(err) => return Err(failed(err)),
        };
        if let Some(file) = &self.history {
            // Losing a line of history is no reason to stop talking.
            let _ = self.inner.append_history(file);
        }
        Ok(Typed::Text(text))
    }

    /// Puts `text` into the history as if it had been typed, so that the arrow keys bring it.
    pub(super) fn remember(&mut self, text: &str) {
        // As above.
        let _ = self.inner.add_history_entry(text);
    }
}

fn failed(err: ReadlineError) -> Failure {
    Failure::machine("TERMINAL", format!("cannot use the terminal: {err}"), "use -p TEXT")
}

struct Assistant {
    complete: Complete,
    files: FilenameCompleter,
}

impl Helper for Assistant {}

impl Hinter for Assistant {
    type Hint = String;
}

impl Validator for Assistant {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(if unfinished(context.input()) { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (start, mut found) = match (self.complete)(&line[..pos]) {
            Candidates::Words(start, words) => {
                let pair = |word: String| Pair { display: word.trim_end().to_owned(), replacement: word };
                (start, words.into_iter().map(pair).collect())
            }
            Candidates::Files(start) => {
                let (from, found) = self.files.complete_path(&line[start..pos], pos - start)?;
                (start + from, found)
            }
        };
        // Names of files are shown by the editor as they are.
        found.retain(|pair| !pair.replacement.chars().any(hazardous) && !pair.display.chars().any(hazardous));
        Ok((start, found))
    }
}

/// Pasted text may hold what acts on a terminal; it is sent to the model as it is, and shown as a mark of the same width.
impl Highlighter for Assistant {
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        let shown = |c: char| match c {
            '\n' | '\t' => Some(c),
            c if c.is_control() => Some('\u{fffd}'),
            c if hazardous(c) => None,
            c => Some(c),
        };
        if line.chars().all(|c| shown(c) == Some(c)) { line.into() } else { line.chars().filter_map(shown).collect() }
    }

    fn highlight_char(&self, line: &str, _: usize, _: CmdKind) -> bool {
        line.chars().any(|c| !matches!(c, '\n' | '\t') && hazardous(c))
    }
}
