//! How files are opened and created.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use tempfile::NamedTempFile;

/// Who may read a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Its owner alone (0600). On Windows: as the folder says.
    Owner,
    /// Everybody whom the umask admits (0666), as for any new file.
    Umask,
}

impl Mode {
    /// The permission bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Umask => 0o666,
        }
    }
}

/// Opens `path` for reading. Does not wait for a writer when `path` is a pipe.
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

/// Makes `options` refuse a symbolic link, and not wait when the path is a pipe. Does nothing on Windows.
pub fn deny_links(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        let flags = rustix::fs::OFlags::NOFOLLOW.union(rustix::fs::OFlags::NONBLOCK);
        options.custom_flags(flags.bits().cast_signed());
    }
    options
}

/// Creates a temporary file in `folder`, named `.tulu-quant-….tmp`.
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
