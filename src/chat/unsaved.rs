//! What is kept of a conversation that is left without /save: its text, as `last.json` beside the saved ones. It is made
//! ready after every answer, so that whoever ends the program (the loop, or the thread that hears a signal) can write it.

use super::saved;
use crate::atomic_file::{self, Mode};
use crate::error::Failure;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The name under which it is kept; /save leaves it alone.
pub(super) const NAME: &str = "last";

/// The text of a conversation that is nowhere yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Unsaved(Arc<Mutex<Option<String>>>);

impl Unsaved {
    /// Notes what the conversation is now; `None` when it is saved, or empty.
    pub(super) fn set(&self, text: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    /// Writes it, once; where to, or `None` when there is nothing to keep. Others that want to keep it wait meanwhile.
    pub(super) fn save(&self) -> Option<Result<PathBuf, Failure>> {
        let mut unsaved = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = unsaved.take()?;
        let written = file().and_then(|file| atomic_file::write(&file, text.as_bytes(), Mode::Owner).map(|()| file));
        Some(written)
    }
}

/// Where it is kept.
fn file() -> Result<PathBuf, Failure> {
    Ok(saved::folder()?.join(format!("{NAME}.json")))
}

/// Whether `path` is the place of conversations that nobody saved.
pub(super) fn is_last(path: &Path) -> bool {
    file().is_ok_and(|file| file == path)
}
