//! Reads paths that may not exist: a missing path gives `None`, and any other system error is returned.

use crate::error::Failure;
use std::fs::{self, Metadata};
use std::io::{Error, ErrorKind};
use std::path::Path;

/// Returns the metadata of `path`, with symlinks followed.
///
/// # Errors
/// `IO`, such as for a missing permission or a failing disk.
pub(crate) fn metadata(path: &Path) -> Result<Option<Metadata>, Failure> {
    or_absent(path, fs::metadata(path))
}

/// Returns whether `path` is a file; see [`metadata`].
pub(crate) fn is_file(path: &Path) -> Result<bool, Failure> {
    Ok(metadata(path)?.is_some_and(|found| found.is_file()))
}

/// Returns whether `path` is a folder; see [`metadata`].
pub(crate) fn is_dir(path: &Path) -> Result<bool, Failure> {
    Ok(metadata(path)?.is_some_and(|found| found.is_dir()))
}

/// Reads a file.
///
/// # Errors
/// As [`metadata`].
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    or_absent(path, fs::read(path))
}

/// Returns the paths in a folder, sorted; an empty list if the folder is missing.
///
/// # Errors
/// As [`metadata`].
pub(crate) fn list(path: &Path) -> Result<Vec<std::path::PathBuf>, Failure> {
    let Some(entries) = or_absent(path, fs::read_dir(path))? else { return Ok(Vec::new()) };
    let all: Result<Vec<_>, Error> = entries.map(|entry| Ok(entry?.path())).collect();
    let mut all = all.map_err(|err| Failure::io(path, "cannot list the folder", &err))?;
    all.sort();
    Ok(all)
}

fn or_absent<T>(path: &Path, found: Result<T, Error>) -> Result<Option<T>, Failure> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(err) if is_absence(&err) => Ok(None),
        Err(err) => Err(Failure::io(path, "cannot read", &err)),
    }
}

/// Returns whether the error means that the path does not exist. This includes a path below a file and a name that no
/// file can have.
fn is_absence(err: &Error) -> bool {
    use ErrorKind::{InvalidFilename, InvalidInput, NotADirectory, NotFound};
    matches!(err.kind(), NotFound | NotADirectory | InvalidFilename | InvalidInput)
}

#[cfg(test)]
mod tests {
    use super::{metadata, read};
    use crate::error::Code;
    use std::path::Path;

    #[test]
    fn errors_are_not_absence() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let long = "x".repeat(5000);
        for nothing in [dir.path().join("no"), file.join("below"), dir.path().join(long)] {
            assert!(metadata(&nothing).unwrap().is_none() && read(&nothing).unwrap().is_none());
        }
        assert!(metadata(&file).unwrap().unwrap().is_file());
        // a symlink to itself cannot be resolved
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("link", &link).unwrap();
        assert_eq!(metadata(&link).unwrap_err().code, Code::Io);
        assert_eq!(read(Path::new("/")).unwrap_err().code, Code::Io);
    }
}
