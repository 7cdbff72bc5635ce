//! The sha256 of weight files, where the folder tells it (the shared Hugging Face cache names a file by it). Each such
//! file is hashed from first to last byte on a thread of its own while it is converted, and nothing gets its name when a
//! hash is not the one that is known.
//!
//! The hash keeps near the workers, so that the disk reads a byte once: what one of them read, the other finds in memory.

#![warn(clippy::arithmetic_side_effects)]

use crate::checkpoint::{Checkpoint, Shard};
use crate::error::{Code, Error, Result};
use crate::observer::Observer;
use crate::worker_pool;
use sha2::{Digest as _, Sha256};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Bytes hashed at a time.
const BLOCK: u64 = 1 << 20;

/// Bytes that the hash may be ahead of the workers.
const AHEAD: u64 = 64 << 20;

/// The files that are to be hashed.
pub(crate) struct SourceHashes<'a> {
    source: &'a Checkpoint,
    observer: &'a dyn Observer,
    /// Number of the file, and the sha256 it has to have.
    wanted: Vec<(usize, &'a str)>,
    /// The next of them.
    next: AtomicUsize,
    /// There will be no output, so no hash matters.
    stopped: AtomicBool,
}

impl<'a> SourceHashes<'a> {
    pub(crate) fn new(source: &'a Checkpoint, observer: &'a dyn Observer) -> Self {
        let known = |shard: &Shard| {
            let name = shard.path.file_name()?.to_str()?;
            source.provenance.sha256.iter().find(|(file, _)| file == name).map(|(_, sha256)| sha256.as_str())
        };
        let files = source.shards.iter().enumerate();
        let wanted = files.filter_map(|(number, shard)| Some((number, known(shard)?))).collect();
        Self { source, observer, wanted, next: AtomicUsize::new(0), stopped: AtomicBool::new(false) }
    }

    /// Ends all hashing.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// SourceHashes file after file beside the workers, who are at `place` (file and offset), until `done` says that they have
    /// read everything; the file that is begun then is finished.
    ///
    /// # Errors
    /// [`Code::Sha256`] when a file is not what it was.
    pub(crate) fn hash_alongside(&self, done: &AtomicBool, place: impl Fn() -> (usize, u64)) -> Result<()> {
        while !done.load(Ordering::Relaxed) {
            let may_read = |file: usize, offset: u64| {
                let (at, begun) = place();
                done.load(Ordering::Relaxed) || file < at || (file == at && offset <= begun.saturating_add(AHEAD))
            };
            if !self.hash_next(may_read)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// SourceHashes the files that are left, several at a time.
    ///
    /// # Errors
    /// As [`Self::hash_alongside`].
    pub(crate) fn hash_remaining(&self, threads: NonZeroUsize) -> Result<()> {
        let left = self.wanted.len().saturating_sub(self.next.load(Ordering::Relaxed));
        worker_pool::run(threads, left, &self.source.dir, |_, (): &mut ()| self.hash_next(|_, _| true).map(drop))
    }

    /// SourceHashes the next file, as far as `may_read` lets it; false when there is none.
    fn hash_next(&self, may_read: impl Fn(usize, u64) -> bool) -> Result<bool> {
        let Some((number, wanted)) = self.wanted.get(self.next.fetch_add(1, Ordering::Relaxed)) else {
            return Ok(false);
        };
        let shard = &self.source.shards[*number];
        let (mut hash, mut at) = (Sha256::new(), 0);
        let mut block = vec![0; usize::try_from(BLOCK.min(shard.len())).unwrap_or(0)];
        while at < shard.len() {
            if self.stopped.load(Ordering::Relaxed) {
                return Ok(false);
            }
            if self.observer.cancelled() {
                let what = "stopped; no file was kept";
                return Err(Error::new(Code::Interrupted, &self.source.dir, what, "run it again"));
            }
            if !may_read(*number, at) {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            }
            let part = BLOCK.min(shard.len().saturating_sub(at));
            let part = &mut block[..usize::try_from(part).unwrap_or(0)];
            shard.read(part, at, "read the file for its sha256")?;
            hash.update(&*part);
            at = at.saturating_add(part.len() as u64);
        }
        let found: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
        if found.eq_ignore_ascii_case(wanted) {
            return Ok(true);
        }
        let what = format!("has sha256 {found}; when it was downloaded it had {wanted}");
        let fix = "the file is damaged or was changed: delete it and download it again";
        Err(Error::new(Code::Sha256, &shard.path, what, fix))
    }
}
