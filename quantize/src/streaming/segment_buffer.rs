//! The segments that are in memory: fetched a little ahead of the workers, hashed in the order of the files, dropped when
//! both are done with them.
//!
//! There is no deadlock: segments enter in order, so the first one that is not done is always in, and nothing waits for
//! anything behind it.

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

/// How often one who waits looks whether the user asked to stop.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The window over the segments of a checkpoint.
pub(super) struct SegmentBuffer<'a> {
    source: &'a Checkpoint,
    segments: &'a Segments,
    observer: &'a dyn Observer,
    /// Bytes held at capacity.
    capacity: u64,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Everything before it is done: its chunks are written, its bytes have checksum.
    first: usize,
    /// The sums at `first`.
    checksum: RunningChecksum,
    /// The next segment to fetch.
    next: usize,
    /// Those from `first` to `next`.
    entries: VecDeque<Entry>,
    /// Bytes of the entries.
    held: u64,
    /// Memory of segments that are done, for the next ones: allocated anew each time, it would be spread over the
    /// allocator's arenas, and the process would hold twice the window.
    free_buffers: Vec<Vec<u8>>,
    /// Why everything stops; the first reason counts.
    stopped: Option<Error>,
    /// There is nothing more to do.
    closed: bool,
}

#[derive(Default)]
struct Entry {
    bytes: Option<Arc<Vec<u8>>>,
    chunks_done: usize,
    /// The sums behind it.
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
        // a thread that died said so with `stop`, and the numbers are whole after each step
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'g>(&self, state: MutexGuard<'g, State>) -> MutexGuard<'g, State> {
        self.changed.wait_timeout(state, POLL_INTERVAL).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Stops everything for this reason, if there is none yet.
    pub(super) fn stop(&self, why: Error) {
        self.lock().stopped.get_or_insert(why);
        self.changed.notify_all();
    }

    /// Ends the threads that serve the window.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Ends them when the answer is dropped, however that comes.
    pub(super) fn close_at_the_end(&self) -> impl Drop + '_ {
        struct Closed<'w, 'a>(&'w SegmentBuffer<'a>);
        impl Drop for Closed<'_, '_> {
            fn drop(&mut self) {
                self.0.close();
            }
        }
        Closed(self)
    }

    /// Why it stopped.
    pub(super) fn reason(&self) -> Option<Error> {
        self.lock().stopped.clone()
    }

    /// How far everything is done.
    pub(super) fn resume_point(&self) -> ResumePoint {
        let state = self.lock();
        ResumePoint { segment: state.first, checksum: state.checksum.clone() }
    }

    /// Waits for a change, or until it is time to look; whether there is more to wait for.
    pub(super) fn wait_for_change(&self) -> bool {
        let over = |state: &State| state.closed || state.stopped.is_some();
        let state = self.lock();
        !over(&state) && !over(&self.wait(state))
    }

    /// One connection: fetches segment after segment while there is room.
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

    /// The next segment, when there is room for it.
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

    fn fetch_segment(&self, remote: &RemoteCheckpoint, segment: &Segment) -> Result<Vec<u8>> {
        let path = &self.source.shards[segment.shard].path;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let len = usize::try_from(segment.len()).unwrap_or(usize::MAX);
        let mut bytes = self.lock().free_buffers.pop().unwrap_or_default();
        bytes.clear();
        bytes.try_reserve_exact(len).map_err(|_| {
            Error::new(Code::Io, path, format!("no memory for {len} bytes"), "close other programs, then run it again")
        })?;
        remote.ranges.fetch(&name, segment.span.clone(), &mut |part| {
            bytes.extend_from_slice(part);
            let state = self.lock();
            match (&state.stopped, state.closed) {
                (Some(why), _) => Err(why.clone()),
                (None, true) => Err(Error::new(Code::Interrupted, path, "stopped", "run it again")),
                (None, false) => Ok(()),
            }
        })?;
        if bytes.len() != len {
            let what = format!("{} bytes came for the {len} from byte {}", bytes.len(), segment.span.start);
            return Err(Error::new(Code::Engine, path, what, "report this"));
        }
        Ok(bytes)
    }

    /// The one thread that takes the sums, in the order of the files.
    pub(super) fn hash_in_order(&self, remote: &RemoteCheckpoint) {
        let _stop_on_panic = self.stop_on_panic();
        let (first, mut checksum) = {
            let state = self.lock();
            (state.first, state.checksum.clone())
        };
        for (number, segment) in self.segments.iter().enumerate().skip(first) {
            let Ok(bytes) = self.wait_for(number) else { return };
            let shard = &self.source.shards[segment.shard];
            let mut summed = check_same_as_read(shard, segment, &bytes);
            summed = summed.and_then(|()| checksum.update(shard, segment.span.clone(), &bytes));
            if segment.last && summed.is_ok() {
                summed = std::mem::take(&mut checksum).check(shard, listed(remote, &shard.path));
            }
            if let Err(err) = summed {
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

    /// The bytes of a segment, once they are there.
    fn wait_for(&self, number: usize) -> Result<Arc<Vec<u8>>> {
        let mut state = self.lock();
        loop {
            if let Some(why) = &state.stopped {
                return Err(why.clone());
            }
            if state.closed || self.observer.cancelled() {
                return Err(Error::new(
                    Code::Interrupted,
                    &self.source.dir,
                    self.cancel_message(),
                    "run it again to go on",
                ));
            }
            let Some(at) = number.checked_sub(state.first) else {
                return Err(self.defect("a segment was asked for after it was done"));
            };
            if let Some(bytes) = state.entries.get(at).and_then(|entry| entry.bytes.clone()) {
                return Ok(bytes);
            }
            state = self.wait(state);
        }
    }

    /// Waits until everything is done.
    pub(super) fn wait_for_all(&self) -> Result<()> {
        let mut state = self.lock();
        while state.first < self.segments.len() {
            if let Some(why) = &state.stopped {
                return Err(why.clone());
            }
            if self.observer.cancelled() {
                return Err(Error::new(
                    Code::Interrupted,
                    &self.source.dir,
                    self.cancel_message(),
                    "run it again to go on",
                ));
            }
            state = self.wait(state);
        }
        Ok(())
    }

    /// Drops the first segments that everyone is done with.
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

    fn defect(&self, what: &str) -> Error {
        Error::new(Code::Engine, &self.source.dir, what, "report this")
    }

    /// Stops the others when the thread that holds it dies.
    pub(super) fn stop_on_panic(&self) -> impl Drop + '_ {
        struct StopOnPanic<'w, 'a>(&'w SegmentBuffer<'a>);
        impl Drop for StopOnPanic<'_, '_> {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    self.0.stop(self.0.defect("a thread died"));
                }
            }
        }
        StopOnPanic(self)
    }
}

/// Compares with what was read of the file when it was opened: a header or a directory decides where every tensor lies, so
/// its bytes have to be those that pass the sum.
///
/// # Errors
/// [`Code::Sha256`]: one of the two answers was wrong, and the sum can speak for the second only.
fn check_same_as_read(shard: &Shard, segment: &Segment, bytes: &[u8]) -> Result<()> {
    let Some(at) = shard.bytes.first_difference(segment.span.start, bytes) else { return Ok(()) };
    let what = format!("byte {at} came differently when the file's header was read");
    let fix = "run it again; if it stays so, the server or a proxy gives different bytes for one file";
    Err(Error::new(Code::Sha256, &shard.path, what, fix))
}

/// The sha256 that a file has to have.
fn listed<'d>(remote: &'d RemoteCheckpoint, path: &Path) -> &'d str {
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

    fn done(&self, chunk: usize) {
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
        "stopped; what has arrived is kept"
    }
}
