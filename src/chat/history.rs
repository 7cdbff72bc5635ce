//! Where typed lines are kept between sessions.

use std::path::PathBuf;

/// The history file, its folder made; `None` when there is no place for it.
pub(super) fn file() -> Option<PathBuf> {
    let folder = crate::model::cache_folder()?;
    std::fs::create_dir_all(&folder).ok()?;
    Some(folder.join("chat_history"))
}
