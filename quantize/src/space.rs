//! Whether all outputs together fit on their disks. A filesystem that can reserve space does so file by file; this is for
//! the others, and says it before anything is written.

use crate::error::{Code, Error, Result};
#[cfg(unix)]
use crate::output;
use std::path::Path;

/// The disk of `path` has too little room.
pub(crate) fn disk_full(path: &Path, needed: u64, free: u64) -> Error {
    let what = format!("needs {needed} bytes, {free} are free");
    Error::new(Code::DiskFull, path, what, "free space or choose another disk with -o; nothing was written")
}

/// Whether the disks have room for all of `outputs` (path and bytes) together.
///
/// # Errors
/// [`Code::DiskFull`] naming the first output that does not fit.
pub(crate) fn check<'a>(outputs: impl Iterator<Item = (&'a Path, u64)>) -> Result<()> {
    #[cfg(unix)]
    {
        use std::collections::HashMap;
        use std::os::unix::fs::MetadataExt as _;
        let mut needed: HashMap<u64, u64> = HashMap::new();
        for (path, len) in outputs {
            let dir = output::folder_of(path);
            // what is wrong with a folder is said when a file is created there
            let Ok(found) = std::fs::metadata(&dir) else { continue };
            let sum = needed.entry(found.dev()).or_default();
            *sum = sum.saturating_add(len);
            // a filesystem that does not know has no free blocks and no blocks at all
            let free = rustix::fs::statvfs(&dir).ok().filter(|s| s.f_blocks > 0);
            let free = free.map_or(u64::MAX, |s| s.f_bavail.saturating_mul(s.f_frsize));
            if free < *sum {
                return Err(disk_full(path, *sum, free));
            }
        }
    }
    #[cfg(not(unix))]
    let _ = outputs;
    Ok(())
}
