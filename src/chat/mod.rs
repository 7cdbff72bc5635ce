//! Conversations with a person. `conversation` (messages and answers) and `overflow` (a full context) are the core;
//! `saved`, `saved_files`, `unsaved` and `export` write files; `repl` is the loop on a terminal, with
//! `session`, `line_editor`, `input`, `typed_path`, `commands`, `parameters`, `external_editor` and `answer_writer`.
//!
//! Each turn sends the whole conversation to the decoder (`decode/`). Answers keep their generated token ids, so that
//! the new prompt shares its prefix with the KV cache and only the new message is processed.

mod answer_writer;
mod commands;
mod conversation;
mod export;
mod external_editor;
mod input;
mod line_editor;
mod overflow;
mod parameters;
mod repl;
mod saved;
mod saved_files;
mod session;
mod typed_path;
mod unsaved;

pub(crate) use answer_writer::AnswerWriter;
pub(crate) use conversation::Conversation;
pub(crate) use overflow::Overflow;
pub(crate) use parameters::Parameters;
pub(crate) use repl::run as run_interactive;
pub(crate) use saved::Saved;
pub(crate) use saved_files::{newest, path_of};
pub(crate) use session::Habits;
