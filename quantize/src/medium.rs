//! Where the bytes of weight files are: the border that keeps the readers from knowing whether a file lies on this disk
//! or is still on its way. Here is the file on disk; `arrive/` has the other one.

use crate::error::{Code, Error, Result};
use crate::positioned;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::Path;
use std::time::SystemTime;

/// The bytes of one weight file, at any offset, from several threads at once.
pub trait Medium: fmt::Debug + Send + Sync {
    /// Length in bytes, as it was when the file was opened.
    fn len(&self) -> u64;

    /// Whether there is nothing in it.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buf` from `offset`; an early end of the file is `UnexpectedEof`.
    ///
    /// # Errors
    /// The operating system's, or one that carries an [`Error`].
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;

    /// These small parts will be read soon: who has a long way to them can fetch them together.
    fn expect(&self, _parts: &[Range<u64>]) {}

    /// `bytes`, which lie at `offset`, are about to be trusted because they pass the file's sum. Answers where they differ
    /// from what was read before from the same place: the first such byte of the file.
    fn contradicts(&self, _offset: u64, _bytes: &[u8]) -> Option<u64> {
        None
    }

    /// What is different now from when the file was opened.
    ///
    /// # Errors
    /// The operating system's.
    fn changed(&self) -> io::Result<Option<String>> {
        Ok(None)
    }
}

/// A file on this disk.
#[derive(Debug)]
pub(crate) struct OnDisk {
    /// What was checked is what is read.
    file: File,
    len: u64,
    /// When it had last been written when it was opened, where the system tells.
    modified: Option<SystemTime>,
}

impl OnDisk {
    /// Opens a regular file: a folder, pipe or device would hang or lie about its length.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let (file, len) = open_regular(path)?;
        Ok(Self::new(file, len))
    }

    /// An open file of `len` bytes.
    pub(crate) fn new(file: File, len: u64) -> Self {
        let modified = file.metadata().and_then(|found| found.modified()).ok();
        Self { file, len, modified }
    }
}

impl Medium for OnDisk {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        positioned::read_exact_at(&self.file, buf, offset)
    }

    fn changed(&self) -> io::Result<Option<String>> {
        let now = self.file.metadata()?;
        Ok(if now.len() != self.len {
            Some(format!("had {} bytes when it was opened and has {} now", self.len, now.len()))
        } else if now.modified().ok() != self.modified {
            Some("was written to after it was opened".to_owned())
        } else {
            None
        })
    }
}

/// Opens a regular file and tells its length. It is opened once and looked at through the handle: what was checked is what
/// is read, and a pipe that took the file's place does not hang.
pub(crate) fn open_regular(path: &Path) -> Result<(File, u64)> {
    let file = open(path).map_err(|err| cannot_open(path, &err))?;
    let found = file.metadata().map_err(|err| Error::io(path, "look at the file", &err))?;
    if !found.is_file() {
        return Err(Error::new(Code::NotAFile, path, "is not a regular file", "replace it with the real file"));
    }
    Ok((file, found.len()))
}

#[cfg(unix)]
fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    // without it, opening a pipe waits for who writes to it; for a regular file it means nothing
    let at_once = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    std::fs::OpenOptions::new().read(true).custom_flags(at_once).open(path)
}

#[cfg(not(unix))]
fn open(path: &Path) -> io::Result<File> {
    File::open(path)
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
