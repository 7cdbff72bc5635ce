//! Opens files safely and creates temporary files.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use tempfile::NamedTempFile;

/// The permissions of a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Only the owner can read and write it (0600). On Windows, the folder's permissions apply.
    Owner,
    /// 0666 without the bits of the umask, as for any new file.
    Umask,
}

impl Mode {
    /// Returns the permission bits, before the umask is applied.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Umask => 0o666,
        }
    }
}

/// Opens `path` for reading. Does not block when `path` is a pipe without a writer.
///
/// # Errors
/// The system's error.
pub fn for_reading(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    }
    options.open(path)
}

/// Makes opening with `options` fail for a symbolic link and not block for a pipe. Does nothing on Windows.
pub fn deny_links(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        let flags = rustix::fs::OFlags::NOFOLLOW.union(rustix::fs::OFlags::NONBLOCK);
        options.custom_flags(flags.bits().cast_signed());
    }
    options
}

/// Creates a temporary file in `folder`, named `.tulu-quant-….tmp`. It is deleted when the value is dropped.
///
/// # Errors
/// The system's error.
pub fn temp_file(folder: &Path, mode: Mode) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".tulu-quant-").suffix(".tmp");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode.bits()));
    #[cfg(not(unix))]
    let _ = mode;
    builder.tempfile_in(folder)
}
