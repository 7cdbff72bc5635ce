//! Which file a MODEL argument means. For now a path, or the demonstration model given by the environment.

use crate::error::Failure;
use std::path::PathBuf;

/// The GGUF that `model` names.
pub(crate) fn resolve(model: Option<&str>) -> Result<PathBuf, Failure> {
    model
        .map(PathBuf::from)
        .ok_or_else(|| Failure::input("MODEL", "no model was given", "give the path of a .gguf file"))
}

/// `$TULU_QUANT_CACHE`, else the platform's cache folder.
pub(crate) fn cache_folder() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("TULU_QUANT_CACHE") {
        return Some(folder.into());
    }
    let home = || std::env::var_os("HOME").map(PathBuf::from);
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| home().map(|home| home.join(".cache")));
    base.map(|base| base.join("tulu-quant"))
}
