//! Checks that all outputs together fit on their disks, before anything is written. (`output.rs` also reserves the
//! space of each file, where the file system supports it.)

use crate::atomic_file::folder_of;
use crate::error::{Code, Error, Result};
use crate::platform;
use std::collections::HashMap;
use std::path::Path;

/// The error for a disk without enough free space for `path`.
pub(crate) fn disk_full(path: &Path, needed: u64, free: u64) -> Error {
    let what = format!("needs {needed} bytes, {free} are free");
    Error::new(Code::DiskFull, path, what, "free space or choose another disk with -o; nothing was written")
}

/// Checks that the disks have enough free space for all `outputs` (path and bytes) together.
///
/// # Errors
/// [`Code::DiskFull`] naming the first output that does not fit.
pub(crate) fn check<'a>(outputs: impl Iterator<Item = (&'a Path, u64)>) -> Result<()> {
    let mut needed: HashMap<u64, u64> = HashMap::new();
    for (path, len) in outputs {
        let folder = folder_of(path);
        // Ignore a folder that cannot be opened: creating a file in it reports the error.
        let Some(device) = platform::device(&folder) else { continue };
        let total = needed.entry(device).or_default();
        *total = total.saturating_add(len);
        let free = platform::free_space(&folder).unwrap_or(u64::MAX);
        if free < *total {
            return Err(disk_full(path, *total, free));
        }
    }
    Ok(())
}
