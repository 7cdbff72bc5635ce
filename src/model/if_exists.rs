//! What is at a path. Only an answer that says so means that nothing is: a disk that cannot be read is no absence.

use crate::error::Failure;
use std::fs::{self, Metadata};
use std::io::{Error, ErrorKind};
use std::path::Path;

/// What is at `path`, links followed; `None` where nothing is.
///
/// # Errors
/// Every other answer of the system, such as a permission that lacks or a disk that fails.
pub(crate) fn metadata(path: &Path) -> Result<Option<Metadata>, Failure> {
    or_absent(path, fs::metadata(path))
}

/// Whether a file is at `path`; see [`metadata`].
pub(crate) fn is_file(path: &Path) -> Result<bool, Failure> {
    Ok(metadata(path)?.is_some_and(|found| found.is_file()))
}

/// Whether a folder is at `path`; see [`metadata`].
pub(crate) fn is_dir(path: &Path) -> Result<bool, Failure> {
    Ok(metadata(path)?.is_some_and(|found| found.is_dir()))
}

/// The bytes of an optional file.
///
/// # Errors
/// As [`metadata`].
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    or_absent(path, fs::read(path))
}

/// The names in a folder that may be missing, in order.
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

/// Nothing is there: also below a file, and under a name that no file can have.
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
    fn an_error_is_no_absence() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let long = "x".repeat(5000);
        for nothing in [dir.path().join("no"), file.join("below"), dir.path().join(long)] {
            assert!(metadata(&nothing).unwrap().is_none() && read(&nothing).unwrap().is_none());
        }
        assert!(metadata(&file).unwrap().unwrap().is_file());
        // a link that leads to itself can be looked at by nobody
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("link", &link).unwrap();
        assert_eq!(metadata(&link).unwrap_err().code, Code::Io);
        assert_eq!(read(Path::new("/")).unwrap_err().code, Code::Io);
    }
}
