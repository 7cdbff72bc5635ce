//! Where converted models and the chat history are kept.

use crate::error::Failure;
use std::path::PathBuf;

/// `$TULU_QUANT_CACHE`, else the platform's cache folder for this program; created when it is not there.
pub(crate) fn dir() -> Result<PathBuf, Failure> {
    let dir = match std::env::var_os("TULU_QUANT_CACHE").filter(|dir| !dir.is_empty()) {
        Some(dir) => PathBuf::from(dir),
        None => directories::ProjectDirs::from("", "", "tulu-quant")
            .map(|dirs| dirs.cache_dir().to_owned())
            .ok_or_else(|| {
                Failure::machine(
                    "CACHE",
                    "there is no home folder to keep models in",
                    "set TULU_QUANT_CACHE to a folder",
                )
            })?,
    };
    std::fs::create_dir_all(&dir).map_err(|err| {
        Failure::machine("CACHE", format!("cannot create the cache folder: {err}"), "set TULU_QUANT_CACHE to a folder")
            .at(&dir)
    })?;
    Ok(dir)
}
