//! Downloads several files into the cache over several connections: a queue of segments, one thread per connection.
//! When the last segment of a file is complete, the file is hashed. If the hash is right, it is renamed into the cache.

use super::handle::Hub;
use super::hash::FileHash;
use super::listing::{Listing, RemoteFile};
use super::partial::Partial;
use super::range_fetch::hash_mismatch;
use crate::error::Failure;
use crate::progress::Bar;
use crate::stderr;
use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Bytes of a segment: the range that one thread requests at a time.
const SEGMENT: u64 = 64 << 20;

/// A file that is being downloaded.
struct FileDownload<'a> {
    file: &'a RemoteFile,
    blob: PathBuf,
    partial: Partial,
    /// Segments that are not complete.
    remaining: AtomicUsize,
    /// Whether the hash was wrong once.
    hash_failed: AtomicBool,
}

/// State that the threads share.
struct Download<'a> {
    hub: &'a Hub,
    listing: &'a Listing,
    downloads: Vec<FileDownload<'a>>,
    queue: Mutex<VecDeque<(usize, Range<u64>)>>,
    /// The first failure, which stops all threads.
    failure: Mutex<Option<Failure>>,
    stop: AtomicBool,
    bar: Bar,
}

/// Downloads `files`; the caller holds their locks.
pub(super) fn download_files(
    hub: &Hub,
    listing: &Listing,
    files: &[&RemoteFile],
    connections: NonZeroUsize,
) -> Result<(), Failure> {
    let mut downloads = Vec::new();
    for file in files {
        let blob = hub.settings.cache.blob(&listing.repo, &file.hash);
        let partial = Partial::open(&blob, file.size, &|| hub.check_cancelled())?;
        downloads.push(FileDownload {
            file,
            blob,
            partial,
            remaining: AtomicUsize::new(0),
            hash_failed: AtomicBool::new(false),
        });
    }
    let (total, completed) = downloads.iter().fold((0, 0), |(t, a), w| (t + w.file.size, a + w.partial.completed()));
    let bar = Bar::bytes("downloading", total);
    bar.begin_at(completed);
    let job = Download {
        hub,
        listing,
        downloads,
        queue: Mutex::default(),
        failure: Mutex::default(),
        stop: AtomicBool::new(false),
        bar,
    };
    for number in 0..job.downloads.len() {
        job.enqueue(number)?;
    }
    let segments = job.queue.lock().map_or(1, |queue| queue.len()).max(1);
    std::thread::scope(|scope| {
        for _ in 1..connections.get().min(segments) {
            scope.spawn(|| job.run());
        }
        job.run();
    });
    match job.failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(failure) => Err(failure),
        None => Ok(()),
    }
}

impl Download<'_> {
    /// Queues the missing segments of a file. Checks its hash if none is missing.
    fn enqueue(&self, number: usize) -> Result<(), Failure> {
        let Some(file_download) = self.downloads.get(number) else { return Ok(()) };
        let starts = (0..file_download.file.size).step_by(usize::try_from(SEGMENT).unwrap_or(usize::MAX));
        let segments: Vec<Range<u64>> = starts
            .map(|start| start..(start + SEGMENT).min(file_download.file.size))
            .filter(|segment| !file_download.partial.gaps(segment).is_empty())
            .collect();
        if segments.is_empty() {
            return self.check(number, file_download);
        }
        file_download.remaining.store(segments.len(), Ordering::SeqCst);
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.extend(segments.into_iter().map(|segment| (number, segment)));
        Ok(())
    }

    /// Works until the queue is empty or a thread fails.
    fn run(&self) {
        while !self.stop.load(Ordering::SeqCst) {
            let next = self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some((number, segment)) = next else { return };
            if let Err(failure) = self.segment(number, &segment) {
                self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
                self.stop.store(true, Ordering::SeqCst);
            }
        }
    }

    /// Downloads the missing parts of a segment. After the last segment of a file, checks its hash.
    fn segment(&self, number: usize, segment: &Range<u64>) -> Result<(), Failure> {
        let Some(file_download) = self.downloads.get(number) else { return Ok(()) };
        self.bar.message(file_download.file.path.clone());
        for gap in file_download.partial.gaps(segment) {
            self.gap(file_download, gap)?;
        }
        if file_download.remaining.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.check(number, file_download)
        } else {
            Ok(())
        }
    }

    /// Downloads a range and records its progress in steps. After a failure, also records the bytes before it.
    fn gap(&self, file_download: &FileDownload<'_>, gap: Range<u64>) -> Result<(), Failure> {
        let step = file_download.partial.step();
        let (mut begun, mut at, mut crc) = (gap.start, gap.start, crc32fast::Hasher::new());
        let fetched = self.hub.get_range(self.listing, file_download.file, gap, &mut |bytes| {
            if self.stop.load(Ordering::SeqCst) {
                return Err(Failure::interrupted());
            }
            file_download.partial.write(at, bytes)?;
            crc.update(bytes);
            at += bytes.len() as u64;
            self.bar.advance(bytes.len() as u64);
            if at - begun >= step {
                file_download.partial.record(begun..at, std::mem::take(&mut crc).finalize())?;
                begun = at;
            }
            Ok(())
        });
        let recorded = if at > begun { file_download.partial.record(begun..at, crc.finalize()) } else { Ok(()) };
        fetched.and(recorded)
    }

    /// Checks the hash of a complete file, and renames the file if it is right. If it is wrong, the file is downloaded
    /// once more.
    fn check(&self, number: usize, file_download: &FileDownload<'_>) -> Result<(), Failure> {
        let mut checker = file_download.file.hash.checker(file_download.file.size);
        file_download.partial.read(&mut |bytes| {
            checker.update(bytes);
            self.hub.check_cancelled()
        })?;
        let Err(found) = checker.finish() else { return file_download.partial.finish(&file_download.blob) };
        file_download.partial.clear()?;
        if file_download.hash_failed.swap(true, Ordering::SeqCst) {
            return Err(hash_mismatch(self.listing, file_download.file, &found));
        }
        stderr::note(&format!("{} was damaged in transfer and is downloaded again", file_download.file.path));
        self.enqueue(number)
    }
}

/// Returns the disk space that a file of `size` bytes still needs.
pub(super) fn bytes_to_write(hub: &Hub, listing: &Listing, size: u64, hash: &FileHash) -> u64 {
    let blob = hub.settings.cache.blob(&listing.repo, hash);
    size.saturating_sub(super::partial::allocated(&blob))
}
