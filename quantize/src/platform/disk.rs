//! Free space, and space reserved for a file before it is written.

use std::fs::{File, Metadata};
use std::path::Path;

/// The disk has too little free space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSpace {
    /// Free bytes.
    pub free: u64,
}

/// Bytes that this user may still write to the disk of `path`, which exists. `None` when the system does not know.
#[must_use]
pub fn free_space(path: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        // A file system that does not know reports no blocks at all.
        let disk = rustix::fs::statvfs(path).ok().filter(|disk| disk.f_blocks > 0)?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        None
    }
}

/// A number that tells disks apart: the device that holds `path`. `None` when there is no such path, or no such number.
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

/// Bytes on disk that a file takes: fewer than its length when it has holes. Its length where the system does not tell.
#[must_use]
pub fn allocated(about: &Metadata) -> u64 {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        // In units of 512 bytes, whatever the block size of the file system (stat(2)).
        about.blocks().saturating_mul(512)
    }
    #[cfg(not(unix))]
    about.len()
}

/// Reserves `len` bytes for `file`, where the system can (Linux); elsewhere does nothing.
///
/// # Errors
/// [`NoSpace`] when the disk or the user's quota is too small. A file system that cannot reserve is no error.
pub fn reserve(file: &File, len: u64) -> Result<(), NoSpace> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{FallocateFlags, fallocate, fstatvfs};
        use rustix::io::Errno;
        // Any other error: the file system cannot reserve (NFS, some FUSE), but takes the writes.
        if let Err(Errno::NOSPC | Errno::DQUOT) = fallocate(file, FallocateFlags::empty(), 0, len) {
            let free = fstatvfs(file).map_or(0, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
            return Err(NoSpace { free });
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, len);
    Ok(())
}
