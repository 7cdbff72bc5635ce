//! The sha256 of weight files, where the folder tells it (the shared Hugging Face cache names a file by it). Each such
//! file is hashed from first to last byte on a thread of its own while it is converted, and nothing gets its name when a
//! hash is not the one that is known.
//!
//! The hash keeps near the workers, so that the disk reads a byte once: what one of them read, the other finds in memory.

#![warn(clippy::arithmetic_side_effects)]

use crate::checkpoint::{Checkpoint, Shard};
use crate::error::{Code, Error, Result};
use crate::integers::{to_u64, to_usize};
use crate::observer::Observer;
use crate::sha256::sha256_of;
use crate::worker_pool;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

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

    /// Hashes the next file; false when there is none, or after [`Self::stop`]. Byte `offset` of file `number` is read when
    /// `may_read(number, offset)`.
    fn hash_next(&self, may_read: impl Fn(usize, u64) -> bool) -> Result<bool> {
        let Some((number, wanted)) = self.wanted.get(self.next.fetch_add(1, Ordering::Relaxed)) else {
            return Ok(false);
        };
        let shard = &self.source.shards[*number];
        let mut at = 0;
        let hashed = sha256_of(|block| {
            if at >= shard.len() {
                return Ok(0);
            }
            while !may_read(*number, at) {
                self.check_stopped()?;
                std::thread::sleep(Duration::from_millis(5));
            }
            self.check_stopped()?;
            let len = to_usize(shard.len().saturating_sub(at)).min(block.len());
            shard.read(&mut block[..len], at, "read the file for its sha256")?;
            at = at.saturating_add(to_u64(len));
            Ok(len)
        });
        let found = match hashed {
            Ok(found) => found,
            Err(Ended::Stopped) => return Ok(false),
            Err(Ended::Failed(err)) => return Err(err),
        };
        if found.eq_ignore_ascii_case(wanted) {
            return Ok(true);
        }
        let what = format!("has sha256 {found}; when it was downloaded it had {wanted}");
        let fix = "the file is damaged or was changed: delete it and download it again";
        Err(Error::new(Code::Sha256, &shard.path, what, fix))
    }

    /// Ends a hash after [`Self::stop`], or when the observer cancels.
    fn check_stopped(&self) -> std::result::Result<(), Ended> {
        if self.stopped.load(Ordering::Relaxed) {
            return Err(Ended::Stopped);
        }
        if self.observer.cancelled() {
            let what = "stopped; no file was kept";
            return Err(Error::new(Code::Interrupted, &self.source.dir, what, "run it again").into());
        }
        Ok(())
    }
}

/// Why a file is not hashed to its end.
enum Ended {
    /// There will be no output.
    Stopped,
    Failed(Error),
}

impl From<Error> for Ended {
    fn from(err: Error) -> Self {
        Self::Failed(err)
    }
}
