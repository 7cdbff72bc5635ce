//! Lock files between processes (`flock`, which the system releases when a process is killed).

use super::stopped::stopped;
use crate::error::Failure;
use crate::interrupt::Interrupt;
use crate::stderr;
use std::fs::{self, File, TryLockError};
use std::io::Error;
use std::path::Path;
use std::time::Duration;
use tulu_quantize::platform;

/// Time between two tries to take a lock that another process holds.
const RETRY: Duration = Duration::from_millis(200);

/// A lock, held until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
    /// Whether another process held it first, and may have done the work.
    pub(crate) waited: bool,
}

/// Takes the lock file at `path`, created if missing. Waits while another process holds it, and prints a note "another
/// process {does}". `failed` makes the error from a system error.
pub(crate) fn wait(
    path: &Path,
    does: &str,
    interrupt: &Interrupt,
    failed: &dyn Fn(&Error) -> Failure,
) -> Result<Lock, Failure> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|err| failed(&err))?;
    }
    let file = open(path).map_err(|err| failed(&err))?;
    let mut waited = false;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) => {}
            // a file system without locks: at worst, two processes do the same work
            Err(TryLockError::Error(err)) if platform::is_unsupported(&err) => break,
            Err(TryLockError::Error(err)) => return Err(failed(&err)),
        }
        if !waited {
            stderr::note(&format!("another process {does}; waiting for it"));
            waited = true;
        }
        if let Some(exit) = interrupt.asked() {
            return Err(stopped(exit));
        }
        std::thread::sleep(RETRY);
    }
    Ok(Lock { _file: file, waited })
}

/// Opens the lock file without following a symlink: in a folder that others can write to, it could point to any file.
fn open(path: &Path) -> Result<File, Error> {
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    platform::deny_links(&mut options).open(path)
}
