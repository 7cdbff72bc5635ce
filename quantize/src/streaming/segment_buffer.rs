//! Bounded prefetch buffer of segments between the download threads, the hashing thread and the workers.
//!
//! Why there is no deadlock: segments are reserved in order, so the first unfinished segment is always in the buffer,
//! and no thread that works on it waits for a later segment.

use super::checksum::RunningChecksum;
use super::journal::ResumePoint;
use super::remote::RemoteCheckpoint;
use super::segments::{Segment, Segments};
use crate::checkpoint::{Checkpoint, Shard};
use crate::convert::ChunkSource;
use crate::error::{Code, Error, Result};
use crate::observer::Observer;
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Poll interval for cancellation while waiting.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The segments of a checkpoint that are in memory.
pub(super) struct SegmentBuffer<'a> {
    source: &'a Checkpoint,
    segments: &'a Segments,
    observer: &'a dyn Observer,
    /// Maximum bytes of segments in memory.
    capacity: u64,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// The first unfinished segment; all earlier ones are written and hashed.
    first: usize,
    /// The checksum before `first`.
    checksum: RunningChecksum,
    /// The next segment to fetch.
    next: usize,
    /// The segments from `first` to `next`.
    entries: VecDeque<Entry>,
    /// Bytes of all entries.
    held: u64,
    /// Buffers of finished segments, for reuse. With new allocations, the allocator's arenas would double the memory of
    /// the process.
    free_buffers: Vec<Vec<u8>>,
    /// The error that stopped everything; the first one is kept.
    stopped: Option<Error>,
    /// Whether the conversion has ended.
    closed: bool,
}

/// A segment in the buffer.
#[derive(Default)]
struct Entry {
    bytes: Option<Arc<Vec<u8>>>,
    chunks_done: usize,
    /// The checksum after the segment, once it is hashed.
    checksum: Option<RunningChecksum>,
}

impl<'a> SegmentBuffer<'a> {
    pub(super) fn new(
        source: &'a Checkpoint,
        segments: &'a Segments,
        observer: &'a dyn Observer,
        capacity: u64,
        from: ResumePoint,
    ) -> Self {
        let state = State {
            first: from.segment,
            checksum: from.checksum,
            next: from.segment,
            entries: VecDeque::new(),
            held: 0,
            free_buffers: Vec::new(),
            stopped: None,
            closed: false,
        };
        Self { source, segments, observer, capacity, state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // ignore poisoning: a thread that panics calls `stop`, and the state is consistent after each step
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'g>(&self, state: MutexGuard<'g, State>) -> MutexGuard<'g, State> {
        self.changed.wait_timeout(state, POLL_INTERVAL).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Stops all threads because of `err`, unless they are already stopped.
    pub(super) fn stop(&self, err: Error) {
        self.lock().stopped.get_or_insert(err);
        self.changed.notify_all();
    }

    /// Makes the download and hashing threads end.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Returns a guard that calls [`Self::close`] when it is dropped.
    pub(super) fn close_on_drop(&self) -> impl Drop + '_ {
        struct Closed<'w, 'a>(&'w SegmentBuffer<'a>);
        impl Drop for Closed<'_, '_> {
            fn drop(&mut self) {
                self.0.close();
            }
        }
        Closed(self)
    }

    /// Returns the error that stopped the buffer.
    pub(super) fn stop_reason(&self) -> Option<Error> {
        self.lock().stopped.clone()
    }

    /// Returns the point up to which everything is written and hashed.
    pub(super) fn resume_point(&self) -> ResumePoint {
        let state = self.lock();
        ResumePoint { segment: state.first, checksum: state.checksum.clone() }
    }

    /// Waits for a state change or the poll interval. Returns false once the buffer is closed or stopped.
    pub(super) fn wait_for_change(&self) -> bool {
        let over = |state: &State| state.closed || state.stopped.is_some();
        let state = self.lock();
        !over(&state) && !over(&self.wait(state))
    }

    /// Fetches segment after segment; each download thread runs this.
    pub(super) fn fetch(&self, remote: &RemoteCheckpoint) {
        let _stop_on_panic = self.stop_on_panic();
        while let Some((number, segment)) = self.reserve_next() {
            match self.fetch_segment(remote, segment) {
                Ok(bytes) => {
                    let mut state = self.lock();
                    let at = number.checked_sub(state.first);
                    if let Some(entry) = at.and_then(|at| state.entries.get_mut(at)) {
                        entry.bytes = Some(Arc::new(bytes));
                    }
                    drop(state);
                    self.changed.notify_all();
                }
                Err(err) => return self.stop(err),
            }
        }
    }

    /// Waits until the next segment fits into the buffer, and reserves it; `None` when there is none, or when stopped.
    fn reserve_next(&self) -> Option<(usize, &Segment)> {
        let mut state = self.lock();
        loop {
            if state.stopped.is_some() || state.closed {
                return None;
            }
            let segment = self.segments.get(state.next)?;
            if state.entries.is_empty() || state.held + segment.len() <= self.capacity {
                let number = state.next;
                state.next += 1;
                state.held += segment.len();
                state.entries.push_back(Entry::default());
                return Some((number, segment));
            }
            state = self.wait(state);
        }
    }

    /// Fetches the bytes of a segment.
    fn fetch_segment(&self, remote: &RemoteCheckpoint, segment: &Segment) -> Result<Vec<u8>> {
        let path = &self.source.shards[segment.shard].path;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let len = usize::try_from(segment.len()).unwrap_or(usize::MAX);
        let mut bytes = self.lock().free_buffers.pop().unwrap_or_default();
        bytes.clear();
        bytes.try_reserve_exact(len).map_err(|_| {
            let what = format!("cannot allocate {len} bytes");
            Error::new(Code::Io, path, what, "close other programs, then run it again")
        })?;
        remote.ranges.fetch(&name, segment.span.clone(), &mut |part| {
            bytes.extend_from_slice(part);
            let state = self.lock();
            match (&state.stopped, state.closed) {
                (Some(err), _) => Err(err.clone()),
                (None, true) => Err(Error::new(Code::Interrupted, path, "stopped", "run it again")),
                (None, false) => Ok(()),
            }
        })?;
        if bytes.len() != len {
            let what = format!("expected {len} bytes at offset {}, got {}", segment.span.start, bytes.len());
            return Err(Error::new(Code::Engine, path, what, "report this"));
        }
        Ok(bytes)
    }

    /// Hashes the segments in file order; the hashing thread runs this.
    pub(super) fn hash_in_order(&self, remote: &RemoteCheckpoint) {
        let _stop_on_panic = self.stop_on_panic();
        let (first, mut checksum) = {
            let state = self.lock();
            (state.first, state.checksum.clone())
        };
        for (number, segment) in self.segments.iter().enumerate().skip(first) {
            let Ok(bytes) = self.wait_for(number) else { return };
            let shard = &self.source.shards[segment.shard];
            let mut verified = check_same_as_read(shard, segment, &bytes);
            verified = verified.and_then(|()| checksum.update(shard, segment.span.clone(), &bytes));
            if segment.last && verified.is_ok() {
                verified = std::mem::take(&mut checksum).check(shard, expected_sha256(remote, &shard.path));
            }
            if let Err(err) = verified {
                return self.stop(err);
            }
            drop(bytes);
            let mut state = self.lock();
            let at = number - state.first;
            if let Some(entry) = state.entries.get_mut(at) {
                entry.checksum = Some(checksum.clone());
            }
            self.release(state);
        }
    }

    /// Waits for the bytes of segment `number`.
    fn wait_for(&self, number: usize) -> Result<Arc<Vec<u8>>> {
        let mut state = self.lock();
        loop {
            if let Some(err) = &state.stopped {
                return Err(err.clone());
            }
            if state.closed || self.observer.cancelled() {
                return Err(self.cancelled());
            }
            let Some(at) = number.checked_sub(state.first) else {
                return Err(self.defect("a finished segment was requested"));
            };
            if let Some(bytes) = state.entries.get(at).and_then(|entry| entry.bytes.clone()) {
                return Ok(bytes);
            }
            state = self.wait(state);
        }
    }

    /// Waits until all segments are finished.
    pub(super) fn wait_for_all(&self) -> Result<()> {
        let mut state = self.lock();
        while state.first < self.segments.len() {
            if let Some(err) = &state.stopped {
                return Err(err.clone());
            }
            if self.observer.cancelled() {
                return Err(self.cancelled());
            }
            state = self.wait(state);
        }
        Ok(())
    }

    /// Removes finished segments from the front of the buffer.
    fn release(&self, mut state: MutexGuard<'_, State>) {
        while let Some(segment) = self.segments.get(state.first) {
            let Some(entry) = state.entries.front_mut() else { break };
            if entry.chunks_done < segment.chunks.len() {
                break;
            }
            let Some(checksum) = entry.checksum.take() else { break };
            let bytes = entry.bytes.take().and_then(Arc::into_inner);
            state.free_buffers.extend(bytes);
            state.entries.pop_front();
            state.checksum = checksum;
            state.first += 1;
            state.held -= segment.len();
        }
        drop(state);
        self.changed.notify_all();
    }

    /// The error after a cancellation.
    fn cancelled(&self) -> Error {
        Error::new(Code::Interrupted, &self.source.dir, self.cancel_message(), "run it again to resume")
    }

    fn defect(&self, what: &str) -> Error {
        Error::new(Code::Engine, &self.source.dir, what, "report this")
    }

    /// Returns a guard that stops the other threads when the current one panics.
    pub(super) fn stop_on_panic(&self) -> impl Drop + '_ {
        struct StopOnPanic<'w, 'a>(&'w SegmentBuffer<'a>);
        impl Drop for StopOnPanic<'_, '_> {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    self.0.stop(self.0.defect("a thread panicked"));
                }
            }
        }
        StopOnPanic(self)
    }
}

/// Compares the bytes of a segment with the bytes that were read when the file was opened. The positions of the tensors
/// come from these bytes (the header or directory), so they must be covered by the SHA-256.
///
/// # Errors
/// [`Code::Sha256`] when they differ: one of the two downloads was wrong.
fn check_same_as_read(shard: &Shard, segment: &Segment, bytes: &[u8]) -> Result<()> {
    let Some(at) = shard.bytes.first_difference(segment.span.start, bytes) else { return Ok(()) };
    let what = format!("byte {at} differs from an earlier download of it");
    let fix = "run it again; if the error persists, the server or a proxy delivers varying bytes for the file";
    Err(Error::new(Code::Sha256, &shard.path, what, fix))
}

/// Returns the expected SHA-256 of a file.
fn expected_sha256<'d>(remote: &'d RemoteCheckpoint, path: &Path) -> &'d str {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    remote.file(&name).map_or("", |file| file.sha256.as_str())
}

impl ChunkSource for SegmentBuffer<'_> {
    fn read(&self, shard: usize, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let number = self.segments.at_offset(shard, offset).ok_or(io::ErrorKind::UnexpectedEof)?;
        let bytes = self.wait_for(number).map_err(io::Error::other)?;
        let begin = self.segments.get(number).map_or(0, |segment| segment.span.start);
        let at = usize::try_from(offset - begin).unwrap_or(usize::MAX);
        let part = at.checked_add(buf.len()).and_then(|end| bytes.get(at..end)).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(part);
        Ok(())
    }

    fn on_written(&self, chunk: usize) {
        let Some(number) = self.segments.of_chunk(chunk) else {
            return self.stop(self.defect("a chunk is in no segment"));
        };
        let mut state = self.lock();
        let at = number.checked_sub(state.first);
        if let Some(entry) = at.and_then(|at| state.entries.get_mut(at)) {
            entry.chunks_done += 1;
        }
        self.release(state);
    }

    fn cancel_message(&self) -> &'static str {
        "stopped; the downloaded part is kept"
    }
}
