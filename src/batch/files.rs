//! The files beside the output: their names, and the lock on the journal.

use crate::error::Failure;
use rustix::fs::{FlockOperation, flock};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a lock is waited for: a process that was killed keeps it until the system has taken its memory back.
const PATIENCE: Duration = Duration::from_secs(3);

/// Opens the file and takes the system's lock on it, which ends with the process however it ends.
pub(super) fn lock(path: &Path) -> Result<File, Failure> {
    let failed = |err: io::Error| Failure::io(path, "cannot open", &err);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let file = OpenOptions::new().append(true).read(true).create(true).open(path).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(50));
                continue;
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let what = "another tulu-quant is writing this output";
                return Err(Failure::machine("OUTPUT_LOCKED", what, "wait for it, or give another -o").at(path));
            }
            Err(err) => return Err(failed(err.into())),
        }
        // Its last owner may have removed it between our open and our lock: then this is no longer the file at `path`.
        let ours = file.metadata().map_err(failed)?;
        match fs::metadata(path) {
            Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => return Ok(file),
            _ => {}
        }
    }
}

/// A file in the same folder, named after `output`.
pub(super) fn beside(output: &Path, before: &str, after: &str) -> Result<PathBuf, Failure> {
    let Some(name) = output.file_name() else {
        return Err(Failure::input("OUTPUT", "is not the name of a file", "give the path of a file").at(output));
    };
    let mut whole = OsString::from(before);
    whole.push(name);
    whole.push(after);
    Ok(output.with_file_name(whole))
}

pub(super) fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
