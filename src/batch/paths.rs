//! Paths of an output and of the files next to it.

use crate::error::{Code, Failure};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Returns whether `path` exists. Any other error than "not found" is returned.
pub(crate) fn exists(path: &Path) -> Result<bool, Failure> {
    Ok(metadata(path)?.is_some())
}

/// Returns whether `path` is a folder.
pub(super) fn is_folder(path: &Path) -> Result<bool, Failure> {
    Ok(metadata(path)?.is_some_and(|about| about.is_dir()))
}

/// Returns whether `path` is a regular file.
pub(crate) fn is_file(path: &Path) -> Result<bool, Failure> {
    Ok(metadata(path)?.is_some_and(|about| about.is_file()))
}

fn metadata(path: &Path) -> Result<Option<fs::Metadata>, Failure> {
    match fs::metadata(path) {
        Ok(about) => Ok(Some(about)),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(Failure::io(path, "cannot read its metadata", &err)),
    }
}

/// Returns the path of a file in the same folder, named after `output` with a prefix and a suffix.
pub(super) fn beside(output: &Path, prefix: &str, suffix: &str) -> Result<PathBuf, Failure> {
    let Some(name) = output.file_name() else {
        return Err(Failure::input(Code::Output, "is not the name of a file", "give the path of a file").at(output));
    };
    let mut full = OsString::from(prefix);
    full.push(name);
    full.push(suffix);
    Ok(output.with_file_name(full))
}
