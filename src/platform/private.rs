//! Files and folders that no other user may read.

use std::fs::{DirBuilder, File, Metadata};
use std::io;
use std::path::Path;
use tulu_quantize::platform::deny_links;

/// Opens a file to append to it; creates it so that only its owner can read it (0600). Fails for a link and for what is not
/// a file.
pub(crate) fn append_private(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.append(true).create(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let file = deny_links(&mut options).open(path)?;
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    if has_other_links(&about) {
        return Err(io::Error::other("it has another name (a hard link)"));
    }
    Ok(file)
}

/// Whether other users can read or write an open file. Never on Windows, where the folder's permissions apply.
pub(crate) fn others_can_access(file: &File) -> io::Result<bool> {
    Ok(mode_bits(&file.metadata()?) & 0o077 != 0)
}

/// Whether other users can write to a folder. Never on Windows.
pub(crate) fn others_can_write(folder: &Path) -> bool {
    std::fs::metadata(folder).is_ok_and(|about| mode_bits(&about) & 0o022 != 0)
}

/// Creates a folder that only its owner can use (0700), and those above it. Does nothing if it exists.
pub(crate) fn create_private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(folder)
}

#[cfg(unix)]
fn mode_bits(about: &Metadata) -> u32 {
    use std::os::unix::fs::MetadataExt as _;
    about.mode()
}

#[cfg(not(unix))]
fn mode_bits(_: &Metadata) -> u32 {
    0
}

#[cfg(unix)]
fn has_other_links(about: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    about.nlink() > 1
}

#[cfg(not(unix))]
fn has_other_links(_: &Metadata) -> bool {
    false
}
