//! Checks the SHA-256s of local weight files, where they are known (the shared Hugging Face cache names files by them).
//! One thread hashes them in file order during the conversion. It stays close to the read position of the workers, so
//! that each byte is read from the disk once and the second read finds it in the page cache.

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

/// The files to hash.
pub(crate) struct SourceHashes<'a> {
    source: &'a Checkpoint,
    observer: &'a dyn Observer,
    /// Index of the shard and its expected SHA-256.
    expected: Vec<(usize, &'a str)>,
    /// Index of the next file in `expected`.
    next: AtomicUsize,
    /// Whether the conversion failed, so that hashing can stop.
    stopped: AtomicBool,
}

impl<'a> SourceHashes<'a> {
    pub(crate) fn new(source: &'a Checkpoint, observer: &'a dyn Observer) -> Self {
        let known = |shard: &Shard| {
            let name = shard.path.file_name()?.to_str()?;
            source.provenance.sha256.iter().find(|(file, _)| file == name).map(|(_, sha256)| sha256.as_str())
        };
        let files = source.shards.iter().enumerate();
        let expected = files.filter_map(|(number, shard)| Some((number, known(shard)?))).collect();
        Self { source, observer, expected, next: AtomicUsize::new(0), stopped: AtomicBool::new(false) }
    }

    /// Stops hashing.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Hashes one file after the other, in parallel with the workers, until `done` is set; the current file is then
    /// finished. `place` returns the read position of the workers (shard and offset).
    ///
    /// # Errors
    /// [`Code::Sha256`] when a file has another SHA-256.
    pub(crate) fn hash_alongside(&self, done: &AtomicBool, place: impl Fn() -> (usize, u64)) -> Result<()> {
        while !done.load(Ordering::Relaxed) {
            let may_read = |file: usize, offset: u64| {
                let (current, workers_at) = place();
                done.load(Ordering::Relaxed)
                    || file < current
                    || (file == current && offset <= workers_at.saturating_add(AHEAD))
            };
            if !self.hash_next(may_read)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Hashes the remaining files, several at a time.
    ///
    /// # Errors
    /// Like [`Self::hash_alongside`].
    pub(crate) fn hash_remaining(&self, threads: NonZeroUsize) -> Result<()> {
        let remaining = self.expected.len().saturating_sub(self.next.load(Ordering::Relaxed));
        worker_pool::run(threads, remaining, &self.source.dir, |_, (): &mut ()| self.hash_next(|_, _| true).map(drop))
    }

    /// Hashes the next file; false when there is none, or after [`Self::stop`]. Byte `offset` of file `number` is read
    /// when `may_read(number, offset)`.
    fn hash_next(&self, may_read: impl Fn(usize, u64) -> bool) -> Result<bool> {
        let Some((number, expected)) = self.expected.get(self.next.fetch_add(1, Ordering::Relaxed)) else {
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
        if found.eq_ignore_ascii_case(expected) {
            return Ok(true);
        }
        let what = format!("has SHA-256 {found}, expected {expected} (recorded at the download)");
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
    /// The conversion failed, so there will be no output.
    Stopped,
    Failed(Error),
}

impl From<Error> for Ended {
    fn from(err: Error) -> Self {
        Self::Failed(err)
    }
}
