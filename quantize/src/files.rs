//! Opens and reads files safely: regular files only, small files with a limit, absence told apart from errors.

use crate::error::{Code, Error, Result};
use crate::platform;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// Opens a regular file and tells its length. It is opened once and looked at through the handle: what was checked is what
/// is read, and a pipe that took the file's place does not hang.
pub(crate) fn open_regular(path: &Path) -> Result<(File, u64)> {
    let file = platform::for_reading(path).map_err(|err| cannot_open(path, &err))?;
    let found = file.metadata().map_err(|err| Error::io(path, "look at the file", &err))?;
    if !found.is_file() {
        return Err(Error::new(Code::NotAFile, path, "is not a regular file", "replace it with the real file"));
    }
    Ok((file, found.len()))
}

/// Why a file cannot be opened: a link whose target is gone is told apart from a name that is not there.
fn cannot_open(path: &Path, err: &io::Error) -> Error {
    let dangles = err.kind() == io::ErrorKind::NotFound && std::fs::symlink_metadata(path).is_ok();
    if !dangles {
        return Error::io(path, "open the file", err);
    }
    let fix = "fetch the model again (tulu-quant pull), or put the file in the link's place";
    Error::new(Code::NotFound, path, "is a link whose target is missing", fix)
}

/// All of a small file, read through one handle; `too_long` is the error for one of so many bytes, more than `most`.
pub(crate) fn read_small(path: &Path, most: u64, too_long: impl Fn(u64) -> Error) -> Result<Vec<u8>> {
    let (file, len) = open_regular(path)?;
    if len > most {
        return Err(too_long(len));
    }
    let mut bytes = Vec::new();
    // it may grow while it is read
    let read = file.take(most.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|err| Error::io(path, "read the file", &err))?;
    if bytes.len() as u64 > most { Err(too_long(bytes.len() as u64)) } else { Ok(bytes) }
}

/// Whether something has the name `path`. Only "not found" is absence: a file that cannot be looked at is an error, and so
/// is, for whoever reads it, a link whose target is gone.
pub(crate) fn is_there(path: &Path) -> Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(err) => Err(Error::io(path, "look for the file", &err)),
    }
}

/// What `read` makes of the file `path`; `None` when there is none.
pub(crate) fn if_there<T>(path: &Path, read: impl FnOnce(&Path) -> Result<T>) -> Result<Option<T>> {
    if is_there(path)? { read(path).map(Some) } else { Ok(None) }
}
