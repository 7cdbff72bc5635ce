//! The files beside the output: their names, and the lock on the journal.

use crate::error::{Code, Failure};
use crate::sanitize::shown;
use crate::stderr::note;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tulu_quantize::platform;

/// How long a lock is waited for: a process that was killed keeps it until the system has taken its memory back.
const PATIENCE: Duration = Duration::from_secs(3);

/// Opens the file and takes the system's lock on it, which ends with the process however it ends. A file system without
/// such locks is used without one, which is said. A file that was made here and cannot be used does not stay.
pub(super) fn lock(path: &Path) -> Result<File, Failure> {
    let failed = |err: io::Error| Failure::io(path, "cannot open", &err);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let file = OpenOptions::new().append(true).read(true).create(true).open(path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(50));
                continue;
            }
            Err(TryLockError::WouldBlock) => {
                let what = "another tulu-quant is writing this output";
                return Err(Failure::machine(Code::OutputLocked, what, "wait for it, or give another -o").at(path));
            }
            Err(TryLockError::Error(err)) if err.kind() == io::ErrorKind::Interrupted => continue,
            Err(TryLockError::Error(err)) if platform::is_unsupported(&err) => {
                note(&format!("{}: its file system has no locks; start no second run with this output", shown(path)));
                return Ok(file);
            }
            Err(TryLockError::Error(err)) => {
                if file.metadata().is_ok_and(|about| about.len() == 0) {
                    let _ = fs::remove_file(path);
                }
                return Err(Failure::io(path, "cannot lock", &err));
            }
        }
        // Its last owner may have removed it between our open and our lock: then this is no longer the file at `path`.
        if platform::is_at(&file, path).map_err(failed)? {
            return Ok(file);
        }
    }
}

/// Whether there is something at `path`; what cannot be looked at is an error.
pub(crate) fn exists(path: &Path) -> Result<bool, Failure> {
    Ok(look(path)?.is_some())
}

/// Whether there is a folder at `path`.
pub(super) fn is_folder(path: &Path) -> Result<bool, Failure> {
    Ok(look(path)?.is_some_and(|about| about.is_dir()))
}

/// Whether there is a file at `path`.
pub(crate) fn is_file(path: &Path) -> Result<bool, Failure> {
    Ok(look(path)?.is_some_and(|about| about.is_file()))
}

fn look(path: &Path) -> Result<Option<fs::Metadata>, Failure> {
    match fs::metadata(path) {
        Ok(about) => Ok(Some(about)),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(Failure::io(path, "cannot look at it", &err)),
    }
}

/// A file in the same folder, named after `output`.
pub(super) fn beside(output: &Path, before: &str, after: &str) -> Result<PathBuf, Failure> {
    let Some(name) = output.file_name() else {
        return Err(Failure::input(Code::Output, "is not the name of a file", "give the path of a file").at(output));
    };
    let mut whole = OsString::from(before);
    whole.push(name);
    whole.push(after);
    Ok(output.with_file_name(whole))
}
