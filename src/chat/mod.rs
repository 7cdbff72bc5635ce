//! Conversations with a person. `talk` (the conversation and its answers), `window` (what goes when it is full), `saved` and
//! `kv` (kept for later), `keep` (what nobody saved), `export` (for others); on the terminal `repl` (the loop), `editor`, `line` and `path` (what is typed),
//! `commands` and `parameter` (slash commands), `external` (the user's own editor), `output` (what may be shown). Decoding is
//! `decode/`, the prompt is `prompt/`.
//!
//! A turn hands the whole conversation to the decoder. Messages of the model keep the tokens they were generated as, so
//! the new prompt begins with what the cache holds, and only the new message is computed.

mod commands;
mod editor;
mod export;
mod external;
mod keep;
mod kv;
mod line;
mod output;
mod parameter;
mod path;
mod repl;
mod saved;
mod talk;
mod window;

pub(crate) use output::Output;
pub(crate) use parameter::Parameters;
pub(crate) use repl::Habits;
pub(crate) use saved::{Saved, file, newest};
pub(crate) use talk::Chat;
pub(crate) use window::Overflow;

use crate::error::{Exit, Failure};
use crate::stderr::dim as note;
use std::path::PathBuf;

impl Chat<'_> {
    /// Talks until the user leaves; goes on with `saved`, if there is one, under `parameters`.
    pub(crate) fn talk(
        &mut self,
        saved: Option<(PathBuf, Saved)>,
        parameters: Parameters,
        habits: Habits,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        let mut file = None;
        if let Some((path, saved)) = saved {
            commands::restore(self, saved, parameters)?;
            file = Some(path).filter(|path| !keep::is_last(path));
        }
        repl::run(self, out, habits, file)
    }
}
