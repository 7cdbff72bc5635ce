//! Counters of the server, shared by its threads.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Counters since the start, and the current load.
#[derive(Debug, Default)]
pub(super) struct Stats {
    /// Slots that compute a request.
    pub(super) busy: AtomicUsize,
    /// Requests of the decoder that wait for a slot.
    pub(super) waiting: AtomicUsize,
    /// Answers that were finished.
    pub(super) answers: AtomicU64,
    /// Requests of the decoder that were cancelled because the client closed its connection.
    pub(super) cancelled: AtomicU64,
    /// Jobs given up at their deadline.
    pub(super) timed_out: AtomicU64,
    /// Jobs dropped because their reader was too slow.
    pub(super) dropped: AtomicU64,
    /// Requests refused because the queue was full.
    pub(super) refused: AtomicU64,
    /// Prompt tokens of finished answers.
    pub(super) prompt_tokens: AtomicU64,
    /// Prompt tokens that were in the KV cache already.
    pub(super) cached_tokens: AtomicU64,
    /// Generated tokens.
    pub(super) completion_tokens: AtomicU64,
    /// Microseconds of prefill, summed over answers.
    prefill_us: AtomicU64,
    /// Microseconds of generation, summed over answers.
    generation_us: AtomicU64,
}

impl Stats {
    /// Counts a finished answer.
    pub(super) fn finished(&self, usage: &crate::decode::Usage) {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        add(&self.answers, 1);
        add(&self.prompt_tokens, usage.prompt_tokens as u64);
        add(&self.cached_tokens, usage.cached_tokens as u64);
        add(&self.completion_tokens, usage.completion_tokens as u64);
        add(&self.prefill_us, micros(usage.prefill));
        add(&self.generation_us, micros(usage.generation));
    }
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}
