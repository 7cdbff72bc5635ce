//! Unnamed files (`O_TMPFILE` on Linux): the system deletes them when the process is killed.

use super::Mode;
use std::fs::File;
use std::io;
use std::path::Path;

/// Creates an unnamed file on the file system of `folder`. `None` where that is impossible: on other systems than
/// Linux, on file systems without support for it (NFS, some FUSE), and without `/proc`, which [`name`] needs.
#[must_use]
pub fn create_unnamed(folder: &Path, mode: Mode) -> Option<File> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, OFlags, openat};
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = File::from(openat(CWD, folder, flags, rustix::fs::Mode::from_bits_truncate(mode.bits())).ok()?);
        // A chroot or a hardened container may have no /proc.
        std::fs::metadata(proc_path(&file)).is_ok().then_some(file)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (folder, mode);
        None
    }
}

/// Links the file of [`create_unnamed`] to `path`, which is in `folder`.
///
/// # Errors
/// `AlreadyExists` when `path` exists and `replace` is false, or the system's error.
pub fn name(file: &File, folder: &Path, path: &Path, replace: bool) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{AtFlags, CWD, linkat};
        use rustix::io::Errno;
        use std::os::fd::AsRawFd as _;
        let own = proc_path(file);
        let link = |to: &Path| linkat(CWD, &own, CWD, to, AtFlags::SYMLINK_FOLLOW);
        if !replace {
            return Ok(link(path)?);
        }
        // A link cannot replace a file, so link to a temporary name first, then rename. Killed processes may have left
        // such names.
        let prefix = format!(".tulu-quant-{}-{}", std::process::id(), file.as_raw_fd());
        let mut names = (0..MAX_TEMPORARY_NAMES).map(|number| folder.join(format!("{prefix}-{number}.tmp")));
        let temporary = names.find_map(|temporary| match link(&temporary) {
            Err(Errno::EXIST) => None,
            done => Some(done.map(|()| temporary)),
        });
        let temporary = temporary.ok_or(io::ErrorKind::AlreadyExists)??;
        std::fs::rename(&temporary, path).inspect_err(|_| drop(std::fs::remove_file(&temporary)))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (file, folder, path, replace);
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Maximum number of temporary names that [`name`] tries.
#[cfg(target_os = "linux")]
const MAX_TEMPORARY_NAMES: u32 = 1000;

/// Returns the path of an open file in /proc, which unnamed files have too.
#[cfg(target_os = "linux")]
fn proc_path(file: &File) -> String {
    use std::os::fd::AsRawFd as _;
    format!("/proc/self/fd/{}", file.as_raw_fd())
}
