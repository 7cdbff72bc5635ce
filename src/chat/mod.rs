//! Conversations with a person. `talk` (the conversation and its answers), `window` (what goes when it is full), `saved` and
//! `kv` (kept for later), `keep` (what nobody saved), `export` (for others); on the terminal `repl` (the loop), `editor`, `line` and `path` (what is typed),
//! `commands` and `parameter` (slash commands), `external` (the user's own editor), `output` (what may be shown). Decoding is
//! `decode/`, the prompt is `prompt/`.
//!
//! A turn hands the whole conversation to the decoder. Messages of the model keep the tokens they were generated as, so
//! the new prompt begins with what the cache holds, and only the new message is computed.

mod answer_writer;
mod commands;
mod conversation;
mod export;
mod external_editor;
mod input;
mod kv_file;
mod line_editor;
mod overflow;
mod parameters;
mod repl;
mod saved;
mod session;
mod typed_path;
mod unsaved;

pub(crate) use answer_writer::AnswerWriter;
pub(crate) use conversation::Conversation;
pub(crate) use overflow::Overflow;
pub(crate) use parameters::Parameters;
pub(crate) use repl::run as run_interactive;
pub(crate) use saved::{Saved, file, newest};
pub(crate) use session::Habits;
