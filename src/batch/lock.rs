//! The lock on the journal: two runs must not write the same output.

use crate::error::{Code, Failure};
use crate::sanitize::shown;
use crate::stderr::note;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};
use tulu_quantize::platform;

/// Maximum time to wait for the lock: the kernel releases the lock of a killed process only after it has freed the
/// memory.
const LOCK_TIMEOUT: Duration = Duration::from_secs(3);

/// Opens the file, or creates it, and takes an advisory lock on it; the kernel releases the lock when the process
/// exits. On a file system without locks, prints a note and continues without a lock. A new file that cannot be locked
/// is deleted.
///
/// # Errors
/// `OUTPUT_LOCKED` if another process has the lock.
pub(super) fn lock(path: &Path) -> Result<File, Failure> {
    let failed = |err: io::Error| Failure::io(path, "cannot open", &err);
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        let file = OpenOptions::new().append(true).read(true).create(true).open(path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(50));
                continue;
            }
            Err(TryLockError::WouldBlock) => {
                let what = "another tulu-quant process is writing this output";
                return Err(Failure::machine(Code::OutputLocked, what, "wait for it, or give another -o").at(path));
            }
            Err(TryLockError::Error(err)) if err.kind() == io::ErrorKind::Interrupted => continue,
            Err(TryLockError::Error(err)) if platform::is_unsupported(&err) => {
                note(&format!(
                    "{}: the file system has no locks; do not start a second run with this output",
                    shown(path)
                ));
                return Ok(file);
            }
            Err(TryLockError::Error(err)) => {
                if file.metadata().is_ok_and(|about| about.len() == 0) {
                    let _ = fs::remove_file(path);
                }
                return Err(Failure::io(path, "cannot lock", &err));
            }
        }
        // If the last owner deleted the file between our open and our lock, open it again.
        if platform::is_at(&file, path).map_err(failed)? {
            return Ok(file);
        }
    }
}
