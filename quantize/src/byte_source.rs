//! [`ByteSource`], the trait of local and remote weight files, and its implementation for local files. The
//! implementation for remote files is in `streaming/remote.rs`.

use crate::error::Result;
use crate::files::open_regular;
use crate::platform;
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::time::SystemTime;

/// Reads the bytes of one weight file at any offset, from several threads at once.
pub trait ByteSource: fmt::Debug + Send + Sync {
    /// Returns the length in bytes when the file was opened.
    fn len(&self) -> u64;

    /// Whether the file is empty.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buf` with the bytes of the file from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends too early, the system's error, or an error that contains a [`crate::Error`].
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;

    /// Prefetches small byte ranges that will be read soon. Does nothing for local files.
    fn prefetch(&self, _parts: &[Range<u64>]) {}

    /// Compares `bytes`, whose checksum was verified, with the bytes that were read from `offset` before. Returns the
    /// offset in the file of the first difference; `None` if there is none.
    fn first_difference(&self, _offset: u64, _bytes: &[u8]) -> Option<u64> {
        None
    }

    /// Describes how the file changed since it was opened; `None` if it did not.
    ///
    /// # Errors
    /// The operating system's error.
    fn changed(&self) -> io::Result<Option<String>> {
        Ok(None)
    }
}

/// A local file.
#[derive(Debug)]
pub(crate) struct FileOnDisk {
    file: File,
    len: u64,
    /// Modification time when the file was opened; `None` where the system does not record it.
    modified: Option<SystemTime>,
}

impl FileOnDisk {
    /// Opens a regular file; a folder, pipe or device is an error.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let (file, len) = open_regular(path)?;
        Ok(Self::new(file, len))
    }

    /// Wraps an open file of `len` bytes.
    pub(crate) fn new(file: File, len: u64) -> Self {
        let modified = file.metadata().and_then(|found| found.modified()).ok();
        Self { file, len, modified }
    }
}

impl ByteSource for FileOnDisk {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        platform::read_exact_at(&self.file, buf, offset)
    }

    fn changed(&self) -> io::Result<Option<String>> {
        let now = self.file.metadata()?;
        Ok(if now.len() != self.len {
            Some(format!("had {} bytes when it was opened and has {} now", self.len, now.len()))
        } else if now.modified().ok() != self.modified {
            Some("was modified after it was opened".to_owned())
        } else {
            None
        })
    }
}
