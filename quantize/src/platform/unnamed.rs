//! Files without a name (Linux, `O_TMPFILE`): a process that is killed while it writes one leaves nothing behind.

use super::Mode;
use std::fs::File;
use std::io;
use std::path::Path;

/// Creates a file without a name on the file system of `folder`. `None` where that is impossible: on other systems, on a
/// file system that cannot (NFS, some FUSE), and without `/proc`, through which [`name`] finds the file.
#[must_use]
pub fn create_unnamed(folder: &Path, mode: Mode) -> Option<File> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, OFlags, openat};
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = File::from(openat(CWD, folder, flags, rustix::fs::Mode::from_bits_truncate(mode.bits())).ok()?);
        // A chroot or a hardened container may lack /proc.
        std::fs::metadata(proc_path(&file)).is_ok().then_some(file)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (folder, mode);
        None
    }
}

/// Gives a file of [`create_unnamed`] the name `path` in `folder`.
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
        // A link never replaces a file, so the file gets a temporary name first. Killed processes may have left some.
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

/// How many temporary names [`name`] tries.
#[cfg(target_os = "linux")]
const MAX_TEMPORARY_NAMES: u32 = 1000;

/// The path of an open file in /proc, whether the file has a name or not.
#[cfg(target_os = "linux")]
fn proc_path(file: &File) -> String {
    use std::os::fd::AsRawFd as _;
    format!("/proc/self/fd/{}", file.as_raw_fd())
}
