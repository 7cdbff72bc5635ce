//! Which file a path leads to: device and inode.

use std::fs::{File, Metadata};
use std::path::Path;

/// The file's inode: its number in its file system, which stays when the file is renamed. `None` where there is none.
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

/// How many names (hard links) the file has; 1 where the system does not tell.
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

/// Returns whether `path` still leads to the open `file`: another process may have deleted or replaced it. Always true
/// on Windows, where an open file cannot be deleted.
///
/// # Errors
/// The system's error, but for a path that no longer exists.
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
