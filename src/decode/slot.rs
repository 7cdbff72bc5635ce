//! One sequence of the KV cache: what is in it, and the job it works on.

use super::job::{Job, Reason};
use super::schedule::SLICE_MIN;
use super::{Event, Ticket};
use crate::engine::{Token, Vocab};

/// A sequence of the KV cache.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// The tokens whose keys and values are in the cache, from position 0.
    pub(super) cached: Vec<Token>,
    /// The cells they are in, as the pool counts them.
    pub(super) cells: Vec<u32>,
    /// How many of `cached` were computed in whole slices of a prompt.
    pub(super) sliced: usize,
    pub(super) job: Option<Job>,
    /// Whether the job is being computed; else it waits for room, or for a beginning that another slot computes.
    pub(super) admitted: bool,
    /// Ticket of the last job: its age.
    pub(super) last: u64,
}

impl Slot {
    /// Tokens of the job that are not in the cache yet; never empty while there is a job.
    pub(super) fn pending(&self) -> &[Token] {
        self.job.as_ref().map_or(&[], |job| &job.ids[self.cached.len()..])
    }

    /// Whether the prompt is read and the answer has begun.
    pub(super) fn generates(&self) -> bool {
        self.job.as_ref().is_some_and(|job| self.cached.len() >= job.n_prompt && self.cached.len() + 1 == job.ids.len())
    }

    /// The next pending tokens are in the cache now, in these cells.
    pub(super) fn advance(&mut self, cells: Vec<u32>) -> Option<(Ticket, Event)> {
        let job = self.job.as_ref()?;
        let (from, to) = (self.cached.len(), self.cached.len() + cells.len());
        self.cached.extend_from_slice(&job.ids[from..to]);
        self.cells.extend(cells);
        if from == self.sliced && to == from + SLICE_MIN && to <= job.n_prompt {
            self.sliced = to;
        }
        (from < job.n_prompt).then_some((job.ticket, Event::Prefill { done: to, total: job.n_prompt }))
    }

    /// Turns new text and, with a reason, the end of the job into events.
    pub(super) fn emit(&mut self, text: String, reason: Option<Reason>, vocab: &Vocab<'_>) -> Vec<(Ticket, Event)> {
        let mut events = Vec::new();
        let Some(job) = &mut self.job else { return events };
        let ticket = job.ticket;
        if !text.is_empty() {
            job.text.push_str(&text);
            events.push((ticket, Event::Text(text)));
        }
        if let (Some(reason), Some(job)) = (reason, reason.and_then(|_| self.job.take())) {
            self.admitted = false;
            events.push((ticket, Event::Finished(job.finish(reason, vocab))));
        }
        events
    }
}
