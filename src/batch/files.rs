//! The files beside the output: their names, and the lock on the journal.

use crate::error::{Code, Failure};
use crate::sanitize::shown;
use crate::stderr::note;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a lock is waited for: a process that was killed keeps it until the system has taken its memory back.
const PATIENCE: Duration = Duration::from_secs(3);

/// Opens the file and takes the system's lock on it, which ends with the process however it ends. A file system without
/// such locks is used without one, which is said. A file that was made here and cannot be used does not stay.
pub(super) fn lock(path: &Path) -> Result<File, Failure> {
    let failed = |err: io::Error| Failure::io(path, "cannot open", &err);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let file = OpenOptions::new().append(true).read(true).create(true).open(path).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::INTR) => continue,
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(50));
                continue;
            }
            Err(Errno::WOULDBLOCK) => {
                let what = "another tulu-quant is writing this output";
                return Err(Failure::machine(Code::OutputLocked, what, "wait for it, or give another -o").at(path));
            }
            Err(err) if has_no_locks(err) => {
                note(&format!("{}: its file system has no locks; start no second run with this output", shown(path)));
                return Ok(file);
            }
            Err(err) => {
                if file.metadata().is_ok_and(|about| about.len() == 0) {
                    let _ = fs::remove_file(path);
                }
                return Err(Failure::io(path, "cannot lock", &err.into()));
            }
        }
        // Its last owner may have removed it between our open and our lock: then this is no longer the file at `path`.
        let ours = file.metadata().map_err(failed)?;
        match fs::metadata(path) {
            Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => return Ok(file),
            Ok(_) => {}
            Err(err) if err.kind() == io::ErrorKind::NotFound => {}
            Err(err) => return Err(failed(err)),
        }
    }
}

/// What a file system without locks answers: Lustre without `-o flock`, some that run in user space, NFS without its lock
/// service.
fn has_no_locks(err: Errno) -> bool {
    [Errno::NOSYS, Errno::OPNOTSUPP, Errno::NOTSUP, Errno::NOLCK].contains(&err)
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

pub(super) fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::{Errno, has_no_locks};

    #[test]
    fn a_file_system_without_locks_is_known() {
        for (err, expected) in [
            (Errno::NOSYS, true),
            (Errno::OPNOTSUPP, true),
            (Errno::NOLCK, true),
            (Errno::WOULDBLOCK, false),
            (Errno::IO, false),
            (Errno::BADF, false),
        ] {
            assert_eq!(has_no_locks(err), expected, "{err}");
        }
    }
}
