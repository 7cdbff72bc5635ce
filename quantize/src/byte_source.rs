//! Where the bytes of weight files are: the border that keeps the readers from knowing whether a file lies on this disk
//! or is still on its way. Here is the file on disk; `arrive/` has the other one.

use crate::error::Result;
use crate::files::open_regular;
use crate::platform;
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::time::SystemTime;

/// The bytes of one weight file, at any offset, from several threads at once.
pub trait ByteSource: fmt::Debug + Send + Sync {
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
    fn prefetch(&self, _parts: &[Range<u64>]) {}

    /// `bytes`, which lie at `offset`, are about to be trusted because they pass the file's sum. Answers where they differ
    /// from what was read before from the same place: the first such byte of the file.
    fn first_difference(&self, _offset: u64, _bytes: &[u8]) -> Option<u64> {
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
pub(crate) struct FileOnDisk {
    /// What was checked is what is read.
    file: File,
    len: u64,
    /// When it had last been written when it was opened, where the system tells.
    modified: Option<SystemTime>,
}

impl FileOnDisk {
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
            Some("was written to after it was opened".to_owned())
        } else {
            None
        })
    }
}
