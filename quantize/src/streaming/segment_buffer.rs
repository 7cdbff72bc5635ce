//! The segments that are in memory: fetched a little ahead of the workers, hashed in the order of the files, dropped when
//! both are done with them.
//!
//! There is no deadlock: segments enter in order, so the first one that is not done is always in, and nothing waits for
//! anything behind it.

use super::checksum::Passed;
use super::journal::Mark;
use super::remote::Distant;
use super::segments::{Segment, Segments};
use crate::checkpoint::{Checkpoint, Shard};
use crate::convert::Feed;
use crate::error::{Code, Error, Result};
use crate::observer::Observer;
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often one who waits looks whether the user asked to stop.
const LOOK: Duration = Duration::from_millis(100);

/// The window over the segments of a checkpoint.
pub(super) struct Window<'a> {
    source: &'a Checkpoint,
    segments: &'a Segments,
    observer: &'a dyn Observer,
    /// Bytes held at most.
    most: u64,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Everything before it is done: its chunks are written, its bytes have passed.
    low: usize,
    /// The sums at `low`.
    at_low: Passed,
    /// The next segment to fetch.
    next: usize,
    /// Those from `low` to `next`.
    slots: VecDeque<Slot>,
    /// Bytes of the slots.
    held: u64,
    /// Memory of segments that are done, for the next ones: allocated anew each time, it would be spread over the
    /// allocator's arenas, and the process would hold twice the window.
    spare: Vec<Vec<u8>>,
    /// Why everything stops; the first reason counts.
    stopped: Option<Error>,
    /// There is nothing more to do.
    closed: bool,
}

#[derive(Default)]
struct Slot {
    bytes: Option<Arc<Vec<u8>>>,
    chunks_done: usize,
    /// The sums behind it.
    passed: Option<Passed>,
}

impl<'a> Window<'a> {
    pub(super) fn new(
        source: &'a Checkpoint,
        segments: &'a Segments,
        observer: &'a dyn Observer,
        most: u64,
        from: Mark,
    ) -> Self {
        let state = State {
            low: from.segment,
            at_low: from.passed,
            next: from.segment,
            slots: VecDeque::new(),
            held: 0,
            spare: Vec::new(),
            stopped: None,
            closed: false,
        };
        Self { source, segments, observer, most, state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // a thread that died said so with `stop`, and the numbers are whole after each step
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'g>(&self, state: MutexGuard<'g, State>) -> MutexGuard<'g, State> {
        self.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0
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
        struct Closed<'w, 'a>(&'w Window<'a>);
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
    pub(super) fn mark(&self) -> Mark {
        let state = self.lock();
        Mark { segment: state.low, passed: state.at_low.clone() }
    }

    /// Waits for a change, or until it is time to look; whether there is more to wait for.
    pub(super) fn watch(&self) -> bool {
        let over = |state: &State| state.closed || state.stopped.is_some();
        let state = self.lock();
        !over(&state) && !over(&self.wait(state))
    }

    /// One connection: fetches segment after segment while there is room.
    pub(super) fn fetch(&self, distant: &Distant) {
        let _told = self.tell_of_death();
        while let Some((number, segment)) = self.admit() {
            match self.get(distant, segment) {
                Ok(bytes) => {
                    let mut state = self.lock();
                    let at = number.checked_sub(state.low);
                    if let Some(slot) = at.and_then(|at| state.slots.get_mut(at)) {
                        slot.bytes = Some(Arc::new(bytes));
                    }
                    drop(state);
                    self.changed.notify_all();
                }
                Err(err) => return self.stop(err),
            }
        }
    }

    /// The next segment, when there is room for it.
    fn admit(&self) -> Option<(usize, &Segment)> {
        let mut state = self.lock();
        loop {
            if state.stopped.is_some() || state.closed {
                return None;
            }
            let segment = self.segments.get(state.next)?;
            if state.slots.is_empty() || state.held + segment.len() <= self.most {
                let number = state.next;
                state.next += 1;
                state.held += segment.len();
                state.slots.push_back(Slot::default());
                return Some((number, segment));
            }
            state = self.wait(state);
        }
    }

    fn get(&self, distant: &Distant, segment: &Segment) -> Result<Vec<u8>> {
        let path = &self.source.shards[segment.shard].path;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let len = usize::try_from(segment.len()).unwrap_or(usize::MAX);
        let mut bytes = self.lock().spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.try_reserve_exact(len).map_err(|_| {
            Error::new(Code::Io, path, format!("no memory for {len} bytes"), "close other programs, then run it again")
        })?;
        distant.supply.fetch(&name, segment.span.clone(), &mut |part| {
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
    pub(super) fn pass(&self, distant: &Distant) {
        let _told = self.tell_of_death();
        let (first, mut passed) = {
            let state = self.lock();
            (state.low, state.at_low.clone())
        };
        for (number, segment) in self.segments.iter().enumerate().skip(first) {
            let Ok(bytes) = self.wait_for(number) else { return };
            let shard = &self.source.shards[segment.shard];
            let mut summed = same_as_read(shard, segment, &bytes);
            summed = summed.and_then(|()| passed.update(shard, segment.span.clone(), &bytes));
            if segment.last && summed.is_ok() {
                summed = std::mem::take(&mut passed).check(shard, listed(distant, &shard.path));
            }
            if let Err(err) = summed {
                return self.stop(err);
            }
            drop(bytes);
            let mut state = self.lock();
            let at = number - state.low;
            if let Some(slot) = state.slots.get_mut(at) {
                slot.passed = Some(passed.clone());
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
                return Err(Error::new(Code::Interrupted, &self.source.dir, self.left(), "run it again to go on"));
            }
            let Some(at) = number.checked_sub(state.low) else {
                return Err(self.defect("a segment was asked for after it was done"));
            };
            if let Some(bytes) = state.slots.get(at).and_then(|slot| slot.bytes.clone()) {
                return Ok(bytes);
            }
            state = self.wait(state);
        }
    }

    /// Waits until everything is done.
    pub(super) fn wait_for_all(&self) -> Result<()> {
        let mut state = self.lock();
        while state.low < self.segments.len() {
            if let Some(why) = &state.stopped {
                return Err(why.clone());
            }
            if self.observer.cancelled() {
                return Err(Error::new(Code::Interrupted, &self.source.dir, self.left(), "run it again to go on"));
            }
            state = self.wait(state);
        }
        Ok(())
    }

    /// Drops the first segments that everyone is done with.
    fn release(&self, mut state: MutexGuard<'_, State>) {
        while let Some(segment) = self.segments.get(state.low) {
            let Some(slot) = state.slots.front_mut() else { break };
            if slot.chunks_done < segment.chunks.len() {
                break;
            }
            let Some(passed) = slot.passed.take() else { break };
            let bytes = slot.bytes.take().and_then(Arc::into_inner);
            state.spare.extend(bytes);
            state.slots.pop_front();
            state.at_low = passed;
            state.low += 1;
            state.held -= segment.len();
        }
        drop(state);
        self.changed.notify_all();
    }

    fn defect(&self, what: &str) -> Error {
        Error::new(Code::Engine, &self.source.dir, what, "report this")
    }

    /// Stops the others when the thread that holds it dies.
    pub(super) fn tell_of_death(&self) -> impl Drop + '_ {
        struct Told<'w, 'a>(&'w Window<'a>);
        impl Drop for Told<'_, '_> {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    self.0.stop(self.0.defect("a thread died"));
                }
            }
        }
        Told(self)
    }
}

/// Compares with what was read of the file when it was opened: a header or a directory decides where every tensor lies, so
/// its bytes have to be those that pass the sum.
///
/// # Errors
/// [`Code::Sha256`]: one of the two answers was wrong, and the sum can speak for the second only.
fn same_as_read(shard: &Shard, segment: &Segment, bytes: &[u8]) -> Result<()> {
    let Some(at) = shard.medium.contradicts(segment.span.start, bytes) else { return Ok(()) };
    let what = format!("byte {at} came differently when the file's header was read");
    let fix = "run it again; if it stays so, the server or a proxy gives different bytes for one file";
    Err(Error::new(Code::Sha256, &shard.path, what, fix))
}

/// The sha256 that a file has to have.
fn listed<'d>(distant: &'d Distant, path: &Path) -> &'d str {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    distant.file(&name).map_or("", |file| file.sha256.as_str())
}

impl Feed for Window<'_> {
    fn read(&self, shard: usize, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let number = self.segments.at(shard, offset).ok_or(io::ErrorKind::UnexpectedEof)?;
        let bytes = self.wait_for(number).map_err(io::Error::other)?;
        let begin = self.segments.get(number).map_or(0, |segment| segment.span.start);
        let at = usize::try_from(offset - begin).unwrap_or(usize::MAX);
        let part = at.checked_add(buf.len()).and_then(|end| bytes.get(at..end)).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(part);
        Ok(())
    }

    fn done(&self, chunk: usize) {
        let Some(number) = self.segments.of(chunk) else { return self.stop(self.defect("a chunk is in no segment")) };
        let mut state = self.lock();
        let at = number.checked_sub(state.low);
        if let Some(slot) = at.and_then(|at| state.slots.get_mut(at)) {
            slot.chunks_done += 1;
        }
        self.release(state);
    }

    fn left(&self) -> &'static str {
        "stopped; what has arrived is kept"
    }
}
