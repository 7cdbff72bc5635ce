//! Names and paths of saved conversations. Their content is in `saved.rs`.

use super::typed_path;
use crate::error::{Code, Failure};
use std::fs::{self, DirEntry};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Returns the folder of conversations saved under a plain name; it may not exist yet.
pub(super) fn folder() -> Result<PathBuf, Failure> {
    crate::model::app_dirs::conversations_dir()
}

/// Returns the file that `name` means: a path (it has a separator or ends in .json) as it is; otherwise a file in
/// [`folder`].
pub(crate) fn path_of(name: &str) -> Result<PathBuf, Failure> {
    let path = typed_path::parse(name);
    let is_path = path.components().count() > 1
        || name.starts_with(['.', '~'])
        || path.extension().is_some_and(|ending| ending == "json")
        || path.is_absolute();
    Ok(if is_path { path } else { folder()?.join(format!("{}.json", path.display())) })
}

/// Returns the names of conversations in [`folder`], sorted.
pub(super) fn names() -> Result<Vec<String>, Failure> {
    let mut names: Vec<String> = entries()?.into_iter().map(|(name, _)| name).collect();
    names.sort();
    Ok(names)
}

/// Returns the newest conversation in [`folder`].
pub(crate) fn newest() -> Result<PathBuf, Failure> {
    let newest = entries()?.into_iter().max_by_key(|(_, entry)| entry.metadata().and_then(|file| file.modified()).ok());
    newest.map(|(_, entry)| entry.path()).ok_or_else(|| {
        let what = "there is no saved conversation";
        Failure::input(Code::Conversation, what, "leave --continue out to start one")
    })
}

/// Returns the conversations in [`folder`] by name; an empty list if the folder is missing.
fn entries() -> Result<Vec<(String, DirEntry)>, Failure> {
    let folder = folder()?;
    let failed = |err: std::io::Error| Failure::io(&folder, "cannot list the saved conversations", &err);
    let entries = match fs::read_dir(&folder) {
        Err(err) if err.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(failed)?,
    };
    let named = |entry: DirEntry| Some((entry.file_name().to_str()?.strip_suffix(".json")?.to_owned(), entry));
    Ok(entries.into_iter().filter_map(named).collect())
}

/// Returns the KV cache file of a conversation.
pub(super) fn kv_path(path: &Path) -> PathBuf {
    path.with_extension("kv")
}
