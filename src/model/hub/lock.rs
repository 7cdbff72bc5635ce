//! One process at a time fetches a blob: the lock that `huggingface_hub` takes too (`flock`, which the system lets go of
//! when a process is killed).

use super::Hub;
use super::hash::FileHash;
use super::repo::RepoId;
use crate::error::Failure;
use crate::stderr;
use std::fs::{self, File, TryLockError};
use std::time::Duration;

/// How often a lock that is taken is tried again.
const RETRY: Duration = Duration::from_millis(200);

impl Hub {
    /// Waits for the lock of a blob; it is let go of when the file is dropped.
    pub(super) fn lock(&self, repo: &RepoId, hash: &FileHash) -> Result<File, Failure> {
        let path = self.settings.cache.lock(repo, hash);
        let io = |err: std::io::Error| {
            Failure::machine("HUB_CACHE", format!("cannot lock: {err}"), "set HF_HUB_CACHE to a folder of yours")
                .at(&path)
        };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(io)?;
        }
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(io)?;
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => {}
                // a file system without locks: the worst is that two processes fetch the same bytes
                Err(TryLockError::Error(err)) if err.kind() == std::io::ErrorKind::Unsupported => return Ok(file),
                Err(TryLockError::Error(err)) => return Err(io(err)),
            }
            if !told {
                stderr::note(&format!("another process is fetching {}; waiting for it", repo.id()));
                told = true;
            }
            self.pause(RETRY)?;
        }
    }
}
