//! Several files at once into the cache, over several connections: a queue of pieces, one thread for each connection.
//! A file is checked against its hash when its last piece has arrived, and takes its name only then.

use super::handle::Hub;
use super::hash::FileHash;
use super::listing::{Listing, RemoteFile};
use super::partial::Partial;
use super::range_fetch::wrong_hash;
use crate::error::Failure;
use crate::progress::Bar;
use crate::stderr;
use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// What one connection is asked for at a time.
const PIECE: u64 = 64 << 20;

/// A file on its way.
struct Work<'a> {
    file: &'a RemoteFile,
    blob: PathBuf,
    partial: Partial,
    /// Pieces that have not arrived.
    left: AtomicUsize,
    /// Its bytes hashed to something else once.
    failed: AtomicBool,
}

/// What the threads share.
struct Job<'a> {
    hub: &'a Hub,
    listing: &'a Listing,
    works: Vec<Work<'a>>,
    queue: Mutex<VecDeque<(usize, Range<u64>)>>,
    /// Why it ends early.
    failure: Mutex<Option<Failure>>,
    stop: AtomicBool,
    bar: Bar,
}

/// Downloads `files`; their locks are held by the caller.
pub(super) fn files(
    hub: &Hub,
    listing: &Listing,
    files: &[&RemoteFile],
    connections: NonZeroUsize,
) -> Result<(), Failure> {
    let mut works = Vec::new();
    for file in files {
        let blob = hub.settings.cache.blob(&listing.repo, &file.hash);
        let partial = Partial::open(&blob, file.size, &|| hub.go_on())?;
        works.push(Work { file, blob, partial, left: AtomicUsize::new(0), failed: AtomicBool::new(false) });
    }
    let (total, arrived) = works.iter().fold((0, 0), |(t, a), w| (t + w.file.size, a + w.partial.arrived()));
    let bar = Bar::bytes("downloading", total);
    bar.begin_at(arrived);
    let job = Job {
        hub,
        listing,
        works,
        queue: Mutex::default(),
        failure: Mutex::default(),
        stop: AtomicBool::new(false),
        bar,
    };
    for number in 0..job.works.len() {
        job.enqueue(number)?;
    }
    let pieces = job.queue.lock().map_or(1, |queue| queue.len()).max(1);
    std::thread::scope(|scope| {
        for _ in 1..connections.get().min(pieces) {
            scope.spawn(|| job.run());
        }
        job.run();
    });
    match job.failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(failure) => Err(failure),
        None => Ok(()),
    }
}

impl Job<'_> {
    /// Puts what is missing of a file on the queue; checks it when nothing is.
    fn enqueue(&self, number: usize) -> Result<(), Failure> {
        let Some(work) = self.works.get(number) else { return Ok(()) };
        let starts = (0..work.file.size).step_by(usize::try_from(PIECE).unwrap_or(usize::MAX));
        let pieces: Vec<Range<u64>> = starts
            .map(|start| start..(start + PIECE).min(work.file.size))
            .filter(|piece| !work.partial.gaps(piece).is_empty())
            .collect();
        if pieces.is_empty() {
            return self.check(number, work);
        }
        work.left.store(pieces.len(), Ordering::SeqCst);
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.extend(pieces.into_iter().map(|piece| (number, piece)));
        Ok(())
    }

    /// Works until the queue is empty or something failed.
    fn run(&self) {
        while !self.stop.load(Ordering::SeqCst) {
            let next = self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some((number, piece)) = next else { return };
            if let Err(failure) = self.piece(number, &piece) {
                self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
                self.stop.store(true, Ordering::SeqCst);
            }
        }
    }

    /// Fetches what is missing of a piece; with a file's last one, checks the file.
    fn piece(&self, number: usize, piece: &Range<u64>) -> Result<(), Failure> {
        let Some(work) = self.works.get(number) else { return Ok(()) };
        self.bar.message(work.file.path.clone());
        for gap in work.partial.gaps(piece) {
            self.gap(work, gap)?;
        }
        if work.left.fetch_sub(1, Ordering::SeqCst) == 1 { self.check(number, work) } else { Ok(()) }
    }

    /// Fetches a range, and records it step by step: also what had arrived before something went wrong.
    fn gap(&self, work: &Work<'_>, gap: Range<u64>) -> Result<(), Failure> {
        let step = work.partial.step();
        let (mut begun, mut at, mut crc) = (gap.start, gap.start, crc32fast::Hasher::new());
        let fetched = self.hub.get_range(self.listing, work.file, gap, &mut |bytes| {
            if self.stop.load(Ordering::SeqCst) {
                return Err(Failure::interrupted());
            }
            work.partial.write(at, bytes)?;
            crc.update(bytes);
            at += bytes.len() as u64;
            self.bar.advance(bytes.len() as u64);
            if at - begun >= step {
                work.partial.record(begun..at, std::mem::take(&mut crc).finalize())?;
                begun = at;
            }
            Ok(())
        });
        let recorded = if at > begun { work.partial.record(begun..at, crc.finalize()) } else { Ok(()) };
        fetched.and(recorded)
    }

    /// All bytes are here: they must be the right ones. When they are not, the file is fetched once more.
    fn check(&self, number: usize, work: &Work<'_>) -> Result<(), Failure> {
        let mut checker = work.file.hash.checker(work.file.size);
        work.partial.read(&mut |bytes| {
            checker.update(bytes);
            self.hub.go_on()
        })?;
        let Err(found) = checker.finish() else { return work.partial.finish(&work.blob) };
        work.partial.clear()?;
        if work.failed.swap(true, Ordering::SeqCst) {
            return Err(wrong_hash(self.listing, work.file, &found));
        }
        stderr::note(&format!("{} arrived damaged and is fetched again", work.file.path));
        self.enqueue(number)
    }
}

/// Bytes that must still be written for `file`.
pub(super) fn to_write(hub: &Hub, listing: &Listing, size: u64, hash: &FileHash) -> u64 {
    let blob = hub.settings.cache.blob(&listing.repo, hash);
    size.saturating_sub(super::partial::allocated(&blob))
}
