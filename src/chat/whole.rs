//! Files that are whole or absent: written under no name of theirs, flushed, then put in their place.

use crate::error::Failure;
use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use tempfile::{NamedTempFile, TempPath};

/// Who may read a file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Readers {
    /// Nobody but its owner.
    Owner,
    /// Whom the umask lets.
    Umask,
}

/// A file under way, in the folder of its destination.
pub(super) fn begin(path: &Path, readers: Readers) -> Result<NamedTempFile, Failure> {
    let folder = folder(path);
    fs::create_dir_all(folder).map_err(|err| Failure::io(folder, "cannot create the folder", &err))?;
    let mode = match readers {
        Readers::Owner => 0o600,
        Readers::Umask => 0o666,
    };
    tempfile::Builder::new()
        .prefix(".tulu-quant-")
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(folder)
        .map_err(|err| Failure::io(path, "cannot write", &err))
}

/// Puts `file`, with all its bytes on the disk, in the place of `path`.
pub(super) fn finish(file: TempPath, path: &Path) -> Result<(), Failure> {
    let failed = |err: std::io::Error| Failure::io(path, "cannot write", &err);
    File::open(&file).and_then(|open| open.sync_all()).map_err(failed)?;
    file.persist(path).map_err(|err| failed(err.error))?;
    // Where a folder cannot be flushed, the file is there all the same.
    let _ = File::open(folder(path)).and_then(|open| open.sync_all());
    Ok(())
}

/// Writes `text` to `path`.
pub(super) fn write(path: &Path, text: &str, readers: Readers) -> Result<(), Failure> {
    let mut file = begin(path, readers)?;
    file.write_all(text.as_bytes()).map_err(|err| Failure::io(path, "cannot write", &err))?;
    finish(file.into_temp_path(), path)
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
