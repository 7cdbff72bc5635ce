//! Free space, and space reserved for a file before it is written.

use std::fs::{File, Metadata};
use std::path::Path;

/// The disk has too little free space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSpace {
    /// Free bytes.
    pub free: u64,
}

/// Returns the bytes that this user can still write to the disk of the existing `path`; `None` when the system does not
/// report them.
#[must_use]
pub fn free_space(path: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        // A file system that cannot report free space reports zero blocks in total.
        let disk = rustix::fs::statvfs(path).ok().filter(|disk| disk.f_blocks > 0)?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        None
    }
}

/// Returns the device number of the existing `path`, which differs between disks (`st_dev`); `None` when `path` does
/// not exist, or on Windows.
#[must_use]
pub fn device(path: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        std::fs::metadata(path).ok().map(|about| about.dev())
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        None
    }
}

/// Returns the bytes on disk that a file occupies: fewer than its length when it has holes. On Windows, its length.
#[must_use]
pub fn allocated(about: &Metadata) -> u64 {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        // The unit is always 512 bytes, also for other block sizes of the file system (stat(2)).
        about.blocks().saturating_mul(512)
    }
    #[cfg(not(unix))]
    about.len()
}

/// Reserves `len` bytes of disk space for `file` on Linux; does nothing elsewhere.
///
/// # Errors
/// [`NoSpace`] when the disk or the user's quota is too small. It is not an error when the file system cannot reserve
/// space.
pub fn reserve(file: &File, len: u64) -> Result<(), NoSpace> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{FallocateFlags, fallocate, fstatvfs};
        use rustix::io::Errno;
        // Ignore other errors: the file system cannot reserve space (NFS, some FUSE), but writing still works.
        if let Err(Errno::NOSPC | Errno::DQUOT) = fallocate(file, FallocateFlags::empty(), 0, len) {
            let free = fstatvfs(file).map_or(0, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
            return Err(NoSpace { free });
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, len);
    Ok(())
}
