//! The engine's loop: takes jobs, keeps the slots of the decoder busy, and sends its events back. It runs on the thread
//! that owns the decoder; HTTP is on another. It never waits for a client: a job whose client is gone, too slow or
//! over its deadline is cancelled after the step that is being computed.

use super::job::{Job, Lost, Update};
use super::stats::{Stats, add};
use crate::decode::{Decoder, Event, RequestId};
use crate::error::Failure;
use crate::stderr;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Instant;
use tokio::sync::mpsc::error::TrySendError;

/// The decoder and the jobs.
pub(super) struct EngineLoop<'m, 's> {
    decoder: Decoder<'m>,
    /// Requests that may be in the decoder at the same time.
    n_places: usize,
    arriving: Receiver<Job>,
    stats: &'s Stats,
    /// Jobs with unfinished requests, oldest first.
    jobs: Vec<ActiveJob>,
    /// The job (by its number) and index of each request in a slot.
    in_slots: HashMap<RequestId, (u64, usize)>,
    n_jobs: u64,
}

/// A job with unfinished requests.
struct ActiveJob {
    number: u64,
    job: Job,
    /// Index of the next request to submit.
    next: usize,
    /// Requests in slots.
    running: usize,
}

impl<'m, 's> EngineLoop<'m, 's> {
    /// The loop ends when every sender of `arriving` is gone and all jobs are finished.
    /// `n_places`: requests that are submitted at the same time.
    pub(super) fn new(decoder: Decoder<'m>, n_places: usize, arriving: Receiver<Job>, stats: &'s Stats) -> Self {
        Self { decoder, n_places, arriving, stats, jobs: Vec::new(), in_slots: HashMap::new(), n_jobs: 0 }
    }

    /// Runs until the server stops, and returns the decoder. After an error all jobs are lost.
    pub(super) fn run(mut self) -> Result<Decoder<'m>, Failure> {
        while self.receive() {
            self.drop_lost();
            let stepped = self.fill_slots().and_then(|()| self.decoder.step());
            match stepped {
                Ok(events) => events.into_iter().for_each(|(id, event)| self.dispatch(id, event)),
                Err(failure) => {
                    self.jobs.iter().for_each(|active| active.send(Update::Failed(Lost::Stopped)));
                    return Err(failure);
                }
            }
            let waiting = self.jobs.iter().map(|active| active.job.requests.len()).sum();
            self.stats.waiting.store(waiting, Ordering::Relaxed);
            self.stats.busy.store(self.in_slots.len(), Ordering::Relaxed);
        }
        Ok(self.decoder)
    }

    /// Takes all jobs that have arrived; without any work, waits for one. Returns false at the end.
    fn receive(&mut self) -> bool {
        loop {
            let arrived = match self.jobs.is_empty() {
                true => self.arriving.recv().map_err(|_| TryRecvError::Disconnected),
                false => self.arriving.try_recv(),
            };
            match arrived {
                Ok(job) => {
                    self.n_jobs += 1;
                    self.jobs.push(ActiveJob { number: self.n_jobs, job, next: 0, running: 0 });
                }
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return !self.jobs.is_empty(),
            }
        }
    }

    /// Ends the jobs that nobody waits for, and those over their deadline.
    fn drop_lost(&mut self) {
        let now = Instant::now();
        for at in (0..self.jobs.len()).rev() {
            let active = &self.jobs[at];
            let gone = active.job.updates.is_closed();
            let late = active.job.deadline.is_some_and(|deadline| deadline < now);
            if gone || late {
                let counter = if gone { &self.stats.cancelled } else { &self.stats.timed_out };
                add(counter, 1);
                active.send(Update::Failed(Lost::Deadline));
                self.end(active.number);
            }
        }
    }

    /// Submits requests while there are idle slots: of the job with the fewest slots, the oldest first.
    fn fill_slots(&mut self) -> Result<(), Failure> {
        while self.decoder.idle() > 0 && self.in_slots.len() < self.n_places {
            let open = self.jobs.iter_mut().filter(|active| !active.job.requests.is_empty());
            let Some(active) = open.min_by_key(|active| (active.running, active.number)) else { break };
            let Some(request) = active.job.requests.pop_front() else { break };
            let index = active.next;
            if index == 0 {
                active.send(Update::Started);
            }
            let id = self.decoder.submit(request)?;
            active.next += 1;
            active.running += 1;
            self.in_slots.insert(id, (active.number, index));
        }
        Ok(())
    }

    /// Sends an event to its job. A reader that does not keep up loses its job.
    fn dispatch(&mut self, id: RequestId, event: Event) {
        let Some(&(number, index)) = self.in_slots.get(&id) else { return };
        let Some(active) = self.jobs.iter_mut().find(|active| active.number == number) else { return };
        if matches!(event, Event::Prefill { .. }) {
            return;
        }
        let mut ended = false;
        if let Event::Finished(answer) = &event {
            self.in_slots.remove(&id);
            self.stats.finished(&answer.usage);
            active.running -= 1;
            ended = active.running == 0 && active.job.requests.is_empty();
        }
        let full = matches!(active.job.updates.try_send(Update::Event(index, event)), Err(TrySendError::Full(_)));
        if full {
            add(&self.stats.dropped, 1);
            stderr::note("a client reads its answer too slowly; the answer was dropped");
        }
        if full || ended {
            self.end(number);
        }
    }

    /// Removes a job, and cancels its requests.
    fn end(&mut self, number: u64) {
        self.jobs.retain(|active| active.number != number);
        let ids = self.in_slots.iter().filter(|(_, (job, _))| *job == number).map(|(id, _)| *id);
        for id in ids.collect::<Vec<_>>() {
            self.in_slots.remove(&id);
            self.decoder.cancel(id);
        }
    }
}

impl ActiveJob {
    /// Sends an update; a full buffer or a client that is gone is found later.
    fn send(&self, update: Update) {
        let _ = self.job.updates.try_send(update);
    }
}
