//! The folders of the program: the cache (converted models, chat history) and the saved conversations.

use crate::error::{Code, Failure};
use std::path::PathBuf;

/// Returns the cache folder: `$TULU_QUANT_CACHE`, or else the platform's cache folder for this program. Creates it if
/// it is missing.
pub(crate) fn cache_dir() -> Result<PathBuf, Failure> {
    let dir = match std::env::var_os("TULU_QUANT_CACHE").filter(|dir| !dir.is_empty()) {
        Some(dir) => PathBuf::from(dir),
        None => directories::ProjectDirs::from("", "", "tulu-quant")
            .map(|dirs| dirs.cache_dir().to_owned())
            .ok_or_else(|| {
                Failure::machine(
                    Code::Cache,
                    "there is no home folder for the cache",
                    "set TULU_QUANT_CACHE to a folder",
                )
            })?,
    };
    std::fs::create_dir_all(&dir).map_err(|err| {
        Failure::machine(
            Code::Cache,
            format!("cannot create the cache folder: {err}"),
            "set TULU_QUANT_CACHE to a folder",
        )
        .at(&dir)
    })?;
    Ok(dir)
}

/// Returns the folder of saved conversations: `$TULU_QUANT_CONVERSATIONS`, or else a folder in the platform's
/// data folder for this program. It may not exist yet.
pub(crate) fn conversations_dir() -> Result<PathBuf, Failure> {
    if let Some(dir) = std::env::var_os("TULU_QUANT_CONVERSATIONS").filter(|dir| !dir.is_empty()) {
        return Ok(dir.into());
    }
    directories::ProjectDirs::from("", "", "tulu-quant").map(|dirs| dirs.data_dir().join("conversations")).ok_or_else(
        || {
            let what = "there is no home folder for conversations";
            Failure::machine(Code::Conversations, what, "save to a file, or set TULU_QUANT_CONVERSATIONS to a folder")
        },
    )
}
