//! Saves a conversation that is left without /save as `last.json` in the folder of saved conversations. Its text is
//! prepared after every answer, so that the loop or the signal thread can write it when the program ends.

use super::saved_files;
use crate::atomic_file::{self, Mode};
use crate::error::Failure;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The name of the file without its extension. /save does not write this file.
pub(super) const NAME: &str = "last";

/// The text of a conversation that is not saved.
#[derive(Clone, Debug, Default)]
pub(super) struct Unsaved(Arc<Mutex<Option<String>>>);

impl Unsaved {
    /// Sets the text; `None` if the conversation is saved or empty.
    pub(super) fn set(&self, text: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    /// Writes the text, once. Returns the path, or `None` if there is nothing to write. A second caller waits for the
    /// first.
    pub(super) fn save(&self) -> Option<Result<PathBuf, Failure>> {
        let mut unsaved = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = unsaved.take()?;
        let written = file().and_then(|file| atomic_file::write(&file, text.as_bytes(), Mode::Owner).map(|()| file));
        Some(written)
    }
}

/// Returns the path of `last.json`.
fn file() -> Result<PathBuf, Failure> {
    Ok(saved_files::folder()?.join(format!("{NAME}.json")))
}

/// Returns whether `path` is the file of unsaved conversations.
pub(super) fn is_last(path: &Path) -> bool {
    file().is_ok_and(|file| file == path)
}
