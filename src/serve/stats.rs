//! Counters of the server, shared by its threads.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
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
    /// Responses by status.
    responses: Mutex<BTreeMap<u16, u64>>,
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

    /// Counts a response.
    pub(super) fn responded(&self, status: u16) {
        *self.responses.lock().unwrap_or_else(PoisonError::into_inner).entry(status).or_default() += 1;
    }

    /// Returns the number of responses by status.
    pub(super) fn responses(&self) -> BTreeMap<u16, u64> {
        self.responses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns name, kind, description and value of all other numbers, as for Prometheus.
    pub(super) fn rows(&self) -> Vec<(&'static str, &'static str, &'static str, String)> {
        let count = |value: &AtomicU64| value.load(Ordering::Relaxed).to_string();
        let now = |value: &AtomicUsize| value.load(Ordering::Relaxed).to_string();
        let seconds = |value: &AtomicU64| format!("{:.6}", value.load(Ordering::Relaxed) as f64 / 1e6);
        vec![
            ("slots_busy", "gauge", "Slots that compute a request.", now(&self.busy)),
            ("queue_length", "gauge", "Answers that wait for a slot.", now(&self.waiting)),
            ("answers_total", "counter", "Finished answers.", count(&self.answers)),
            ("cancelled_total", "counter", "Requests whose client closed the connection.", count(&self.cancelled)),
            ("timed_out_total", "counter", "Requests given up at their deadline.", count(&self.timed_out)),
            ("dropped_total", "counter", "Answers dropped because of a slow reader.", count(&self.dropped)),
            ("refused_total", "counter", "Requests refused because the queue was full.", count(&self.refused)),
            ("prompt_tokens_total", "counter", "Prompt tokens of finished answers.", count(&self.prompt_tokens)),
            ("cached_tokens_total", "counter", "Those that were in the KV cache.", count(&self.cached_tokens)),
            ("completion_tokens_total", "counter", "Generated tokens.", count(&self.completion_tokens)),
            (
                "prefill_seconds_total",
                "counter",
                "Time up to the first token of each answer.",
                seconds(&self.prefill_us),
            ),
            (
                "generation_seconds_total",
                "counter",
                "Time after the first token of each answer.",
                seconds(&self.generation_us),
            ),
        ]
    }
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}
