//! Opens and reads files safely: only regular files, small files with a limit, and missing files distinguished from
//! errors.

use crate::error::{Code, Error, Result};
use crate::platform;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// Opens a regular file and returns it with its length in bytes. The check is on the open file, not on the path, so it
/// also holds if the path is replaced in between.
pub(crate) fn open_regular(path: &Path) -> Result<(File, u64)> {
    let file = platform::for_reading(path).map_err(|err| cannot_open(path, &err))?;
    let found = file.metadata().map_err(|err| Error::io(path, "read the metadata of the file", &err))?;
    if !found.is_file() {
        return Err(Error::new(Code::NotAFile, path, "is not a regular file", "replace it with the real file"));
    }
    Ok((file, found.len()))
}

/// The error for a file that cannot be opened; a dangling link has its own message.
fn cannot_open(path: &Path, err: &io::Error) -> Error {
    let dangles = err.kind() == io::ErrorKind::NotFound && std::fs::symlink_metadata(path).is_ok();
    if !dangles {
        return Error::io(path, "open the file", err);
    }
    let fix = "fetch the model again (tulu-quant pull), or put the file in the link's place";
    Error::new(Code::NotFound, path, "is a link whose target is missing", fix)
}

/// Reads a whole file of at most `max` bytes; `too_long(len)` makes the error for a longer one.
pub(crate) fn read_small(path: &Path, max: u64, too_long: impl Fn(u64) -> Error) -> Result<Vec<u8>> {
    let (file, len) = open_regular(path)?;
    if len > max {
        return Err(too_long(len));
    }
    let mut bytes = Vec::new();
    // the file may grow while it is read
    let read = file.take(max.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|err| Error::io(path, "read the file", &err))?;
    if bytes.len() as u64 > max { Err(too_long(bytes.len() as u64)) } else { Ok(bytes) }
}

/// Whether the name `path` exists. Only "not found" means that it does not; any other failure is an error. A dangling
/// link counts as existing, so that reading it reports the error.
pub(crate) fn exists(path: &Path) -> Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(err) => Err(Error::io(path, "look for the file", &err)),
    }
}

/// Calls `read` on the file `path`; `None` if it does not exist.
pub(crate) fn read_if_exists<T>(path: &Path, read: impl FnOnce(&Path) -> Result<T>) -> Result<Option<T>> {
    if exists(path)? { read(path).map(Some) } else { Ok(None) }
}
