//! One sequence of the KV cache: what is in it, and the job it works on.

use super::job::{Job, Reason};
use super::schedule::SLICE_MIN;
use super::{Event, Ticket};
use crate::engine::{Token, Vocab};
use crate::error::{Code, Failure};

/// What a slot does.
#[derive(Debug, Default)]
pub(super) enum Work {
    /// Nothing; what is in the cache is kept for whoever begins like it.
    #[default]
    Idle,
    /// A job that waits for room, or for a beginning that another slot computes.
    Waiting(Job),
    /// A job that is being computed.
    Running(Job),
}

/// A sequence of the KV cache.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// The tokens whose keys and values are in the cache, from position 0.
    pub(super) cached: Vec<Token>,
    /// The cells they are in, as the pool counts them.
    pub(super) cells: Vec<u32>,
    /// How many of `cached` were computed in whole slices of a prompt.
    pub(super) sliced: usize,
    pub(super) work: Work,
    /// Ticket of the last job: its age.
    pub(super) last: u64,
}

impl Slot {
    /// Its job, waiting or running.
    pub(super) fn job(&self) -> Option<&Job> {
        match &self.work {
            Work::Idle => None,
            Work::Waiting(job) | Work::Running(job) => Some(job),
        }
    }

    /// The same, to change.
    pub(super) fn job_mut(&mut self) -> Option<&mut Job> {
        match &mut self.work {
            Work::Idle => None,
            Work::Waiting(job) | Work::Running(job) => Some(job),
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self.work, Work::Idle)
    }

    pub(super) fn waits(&self) -> bool {
        matches!(self.work, Work::Waiting(_))
    }

    pub(super) fn runs(&self) -> bool {
        matches!(self.work, Work::Running(_))
    }

    /// The job that waits is computed from now on; `n_cached` of its tokens are there.
    pub(super) fn let_in(&mut self, n_cached: usize) {
        if let Work::Waiting(mut job) = std::mem::take(&mut self.work) {
            job.begins_with(n_cached);
            self.work = Work::Running(job);
        }
    }

    /// The job that runs waits from now on; what is in the cache stays until the cells are needed.
    pub(super) fn step_back(&mut self) {
        if let Work::Running(job) = std::mem::take(&mut self.work) {
            self.work = Work::Waiting(job);
        }
    }

    /// Tokens of a running job that are not in the cache yet: at least one.
    pub(super) fn pending(&self) -> &[Token] {
        match &self.work {
            Work::Running(job) => job.ids.get(self.cached.len()..).unwrap_or_default(),
            Work::Idle | Work::Waiting(_) => &[],
        }
    }

    /// Whether the prompt is read and the answer has begun.
    pub(super) fn generates(&self) -> bool {
        let begun = |job: &Job| self.cached.len() >= job.n_prompt && self.cached.len() + 1 == job.ids.len();
        matches!(&self.work, Work::Running(job) if begun(job))
    }

    /// The next pending tokens are in the cache now, in these cells.
    pub(super) fn advance(&mut self, cells: Vec<u32>) -> Result<Option<(Ticket, Event)>, Failure> {
        let (from, to) = (self.cached.len(), self.cached.len() + cells.len());
        let Work::Running(job) = &self.work else {
            return Err(defect("cells were computed for a slot without a running job"));
        };
        let computed = job.ids.get(from..to).ok_or_else(|| defect("more cells were computed than a job has tokens"))?;
        self.cached.extend_from_slice(computed);
        self.cells.extend(cells);
        if from == self.sliced && to == from + SLICE_MIN && to <= job.n_prompt {
            self.sliced = to;
        }
        Ok((from < job.n_prompt).then_some((job.ticket, Event::Prefill { done: to, total: job.n_prompt })))
    }

    /// Turns new text and, with a reason, the end of the job into events.
    pub(super) fn emit(&mut self, text: String, reason: Option<Reason>, vocab: &Vocab<'_>) -> Vec<(Ticket, Event)> {
        let mut events = Vec::new();
        let Some(job) = self.job_mut() else { return events };
        let ticket = job.ticket;
        if !text.is_empty() {
            job.text.push_str(&text);
            events.push((ticket, Event::Text(text)));
        }
        if let Some(reason) = reason
            && let Work::Waiting(job) | Work::Running(job) = std::mem::take(&mut self.work)
        {
            events.push((ticket, Event::Finished(job.finish(reason, vocab))));
        }
        events
    }
}

/// The book of slots and cells does not agree with itself.
pub(super) fn defect(what: &str) -> Failure {
    Failure::engine(Code::Defect, what, "report this: it is a defect of tulu-quant")
}
