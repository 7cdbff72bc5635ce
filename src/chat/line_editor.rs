//! The line editor: the only module that uses rustyline. It keeps a history across runs, treats a paste of several
//! lines as one input, and completes commands, their arguments and file names.

use super::input::is_open_block;
use crate::error::{Code, Failure};
use crate::sanitize::{hazardous, one_line, shown};
use crate::stderr::dim as note;
use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Behavior, ColorMode, CompletionType, Config, Context, Helper};
use std::borrow::Cow;
use std::cell::RefCell;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const PROMPT: &str = ">>> ";
/// Limit on the inputs in the history.
const HISTORY: usize = 1000;

/// The result of reading an input.
pub(super) enum InputEvent {
    /// One or several lines.
    Text(String),
    /// Ctrl-C on an empty line.
    Interrupted,
    /// Ctrl-C on a line with text, which the up arrow brings back.
    Cleared,
    /// Ctrl-D.
    End,
    /// Bytes that are not UTF-8.
    InvalidUtf8,
}

/// Completions at the cursor: words, or files.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Candidates {
    /// These words, from this byte of the line on.
    Words(usize, Vec<String>),
    /// Paths of files, from this byte of the line on.
    Files(usize),
}

/// Returns the completions at the end of a line.
pub(super) type Complete = fn(line: &str) -> Candidates;

type Inner = rustyline::Editor<Assistant, FileHistory>;

/// The line editor and its history.
pub(super) struct Editor {
    inner: Inner,
    history: Option<PathBuf>,
}

impl Editor {
    /// Creates the editor. If `keeps` is set, reads the history of earlier runs, and adds new inputs to it.
    pub(super) fn new(complete: Complete, keeps: bool) -> Result<Self, Failure> {
        // PreferTerm: the prompt goes to the terminal even when stdout is a file.
        let config = Config::builder()
            .behavior(Behavior::PreferTerm)
            .completion_type(CompletionType::List)
            // Needed so that rustyline calls the highlighter, which sanitizes pasted text. No colours are used.
            .color_mode(ColorMode::Forced)
            .auto_add_history(true)
            // As in a shell, a line that begins with a space is not remembered.
            .history_ignore_space(true)
            .max_history_size(HISTORY)
            .map_err(failed)?
            .build();
        let mut inner = rustyline::Editor::with_config(config).map_err(failed)?;
        let typed = RefCell::default();
        inner.set_helper(Some(Assistant { complete, files: FilenameCompleter::new(), typed }));
        let mut this = Self { inner, history: None };
        if keeps {
            match crate::model::app_dirs::cache_dir() {
                Ok(folder) => this.history = Some(folder.join("chat_history")),
                Err(failure) => note(&format!("the input history is not kept: {}", one_line(&failure.what))),
            }
            this.with_history(|inner, file| inner.load_history(file));
        }
        Ok(this)
    }

    /// Runs `work` on the history file. A missing file is an empty history. Another error is not fatal: a note is
    /// printed, and the history file is not used any more.
    fn with_history(&mut self, work: impl FnOnce(&mut Inner, &Path) -> rustyline::Result<()>) {
        let Some(file) = &self.history else { return };
        match work(&mut self.inner, file) {
            Err(ReadlineError::Io(err)) if err.kind() == ErrorKind::NotFound => {}
            Err(err) => {
                note(&format!("{}: the input history is not kept: {}", shown(file), one_line(&err.to_string())));
                self.history = None;
            }
            Ok(()) => {}
        }
    }

    /// Reads an input.
    pub(super) fn read(&mut self) -> Result<InputEvent, Failure> {
        let text = match self.inner.readline(PROMPT) {
            Ok(text) => text,
            Err(ReadlineError::Interrupted) => {
                let typed = self.inner.helper().map(|helper| helper.typed.take()).unwrap_or_default();
                if typed.trim().is_empty() {
                    return Ok(InputEvent::Interrupted);
                }
                self.remember(&typed);
                return Ok(InputEvent::Cleared);
            }
            Err(ReadlineError::Eof) => return Ok(InputEvent::End),
            Err(ReadlineError::Io(err)) if err.kind() == std::io::ErrorKind::InvalidData => {
                return Ok(InputEvent::InvalidUtf8);
            }
            Err(err) => return Err(failed(err)),
        };
        self.with_history(|inner, file| inner.append_history(file));
        Ok(InputEvent::Text(text))
    }

    /// Adds `text` to the history, as if the user had typed it.
    pub(super) fn remember(&mut self, text: &str) {
        // If this fails, only the history is incomplete.
        let _ = self.inner.add_history_entry(text);
    }
}

fn failed(err: ReadlineError) -> Failure {
    Failure::machine(Code::Terminal, format!("cannot use the terminal: {err}"), "use -p TEXT")
}

struct Assistant {
    complete: Complete,
    files: FilenameCompleter,
    /// A copy of the line, because rustyline discards the line on Ctrl-C.
    typed: RefCell<String>,
}

impl Helper for Assistant {}

impl Hinter for Assistant {
    type Hint = String;

    /// Copies the line. rustyline calls this after every change of the line; no hint is returned.
    fn hint(&self, line: &str, _: usize, _: &Context<'_>) -> Option<String> {
        line.clone_into(&mut self.typed.borrow_mut());
        None
    }
}

impl Validator for Assistant {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(if is_open_block(context.input()) { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
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
                let text = with_home(&line[start..pos]);
                let (from, found) = self.files.complete_path(&text, text.len())?;
                (start + from, found)
            }
        };
        // The editor prints file names unfiltered.
        found.retain(|pair| !pair.replacement.chars().any(hazardous) && !pair.display.chars().any(hazardous));
        Ok((start, found))
    }
}

/// Expands `~/` at the beginning of `text`, because the completer does not.
fn with_home(text: &str) -> Cow<'_, str> {
    let quotes = text.len() - text.trim_start_matches(['"', '\'']).len();
    let (quote, name) = text.split_at(quotes.min(1));
    if !name.starts_with("~/") {
        return text.into();
    }
    let home = super::typed_path::expand_home("~").display().to_string();
    let home = if quote.is_empty() { home.replace(' ', "\\ ") } else { home };
    format!("{quote}{home}{}", &name[1..]).into()
}

/// Pasted text may contain control characters. They are sent to the model, but displayed as a replacement character.
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
