//! Renames and links files, and makes their names durable.

use std::io;
use std::path::Path;

/// Renames `from` to `to`, which must not exist. On Linux and macOS the check and the rename are one step, if the file
/// system supports it.
///
/// # Errors
/// `AlreadyExists` when `to` exists, or the system's error.
pub fn rename_no_replace(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_vendor = "apple"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // This file system has no atomic check.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
            done => return Ok(done?),
        }
    }
    if to.symlink_metadata().is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    std::fs::rename(from, to)
}

/// Makes the names in `folder` durable (fsync). Does nothing where that is impossible: on Windows, on SMB and some FUSE
/// file systems, and for a folder that may be written but not read.
///
/// # Errors
/// The system's error, if the file system can flush a folder and failed.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        let synced = std::fs::File::open(folder).and_then(|folder| folder.sync_all());
        let denied = synced.as_ref().is_err_and(|err| err.kind() == io::ErrorKind::PermissionDenied);
        if denied || synced.as_ref().is_err_and(is_unsupported) { Ok(()) } else { synced }
    }
    #[cfg(not(unix))]
    {
        let _ = folder;
        Ok(())
    }
}

/// Returns whether `err` means that the file system does not support the operation, and not that the operation failed.
/// Lustre without `-o flock`, NFS without its lock service and some FUSE file systems report such errors for locks.
#[must_use]
pub fn is_unsupported(err: &io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        let cannot = [Errno::INVAL, Errno::NOTSUP, Errno::OPNOTSUPP, Errno::NOSYS, Errno::NOLCK];
        Errno::from_io_error(err).is_some_and(|errno| cannot.contains(&errno))
            || err.kind() == io::ErrorKind::Unsupported
    }
    #[cfg(not(unix))]
    {
        err.kind() == io::ErrorKind::Unsupported
    }
}

/// Creates the symbolic link `link` to the file `to`, which is relative to the folder of `link`. Where the system does
/// not permit links (Windows without developer mode), copies the file instead.
///
/// # Errors
/// The system's error.
pub fn symlink(to: &Path, link: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(to, link)
    }
    #[cfg(windows)]
    {
        let from = link.parent().unwrap_or(Path::new(".")).join(to);
        std::os::windows::fs::symlink_file(to, link).or_else(|_| std::fs::copy(from, link).map(drop))
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::is_unsupported;
    use rustix::io::Errno;

    #[test]
    fn unsupported_operations_are_told_from_failures() {
        for (errno, unsupported) in [
            (Errno::INVAL, true),
            (Errno::OPNOTSUPP, true),
            (Errno::NOSYS, true),
            (Errno::NOLCK, true),
            (Errno::WOULDBLOCK, false),
            (Errno::IO, false),
            (Errno::NOSPC, false),
            (Errno::BADF, false),
        ] {
            assert_eq!(is_unsupported(&errno.into()), unsupported, "{errno}");
        }
    }
}
