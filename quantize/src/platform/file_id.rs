//! The identity of a file: device and inode.

use std::fs::{File, Metadata};
use std::path::Path;

/// Returns the inode number, which does not change when the file is renamed; `None` on Windows.
#[must_use]
pub fn inode(about: &Metadata) -> Option<u64> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        Some(about.ino())
    }
    #[cfg(not(unix))]
    {
        let _ = about;
        None
    }
}

/// Returns the number of hard links (names) of the file; 1 on Windows.
#[must_use]
pub fn links(about: &Metadata) -> u64 {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        about.nlink()
    }
    #[cfg(not(unix))]
    {
        let _ = about;
        1
    }
}

/// Returns whether `path` is still the path of the open `file`: another process may have deleted or replaced it. Always
/// true on Windows, where an open file cannot be deleted.
///
/// # Errors
/// The system's error. A `path` that no longer exists is not an error.
pub fn is_at(file: &File, path: &Path) -> std::io::Result<bool> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let ours = file.metadata()?;
        match std::fs::metadata(path) {
            Ok(there) => Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino())),
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(err) => Err(err),
        }
    }
    #[cfg(not(unix))]
    {
        let _ = (file, path);
        Ok(true)
    }
}
