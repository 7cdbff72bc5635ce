//! Splits the token budget of a batch: one token for each running answer, and a chunk of the prompts (chunked prefill),
//! which is short enough for Ctrl-C and the progress display. Only arithmetic: no slot is changed here.

use super::request::Mode;
use std::time::Duration;

/// Target time of one batch while a user is waiting: progress and the text of other answers are updated after each
/// batch.
const INTERACTIVE_TARGET: Duration = Duration::from_millis(500);
/// Target time of one batch for records.
const THROUGHPUT_TARGET: Duration = Duration::from_secs(4);
/// Smallest prefill chunk, in tokens. Measured: a prompt takes 10 % more time in chunks of 64 than in one piece, and 50
/// % more in chunks of 32.
pub(super) const MIN_CHUNK: usize = 128;

/// The size of a prefill chunk, in tokens. It is adapted to the time of the previous batches.
#[derive(Debug)]
pub(super) struct ChunkSize {
    /// `None`: the size does not change.
    target: Option<Duration>,
    len: usize,
    max: usize,
}

impl ChunkSize {
    /// Starts with the smallest chunk: on a slow machine the first chunk of a 70B model must not take a minute. For
    /// records without a GPU it does not grow, because longer chunks are not faster there, and answers wait for them.
    pub(super) fn new(mode: Mode, gpu: bool, n_batch: usize) -> Self {
        let target = match mode {
            Mode::Interactive => Some(INTERACTIVE_TARGET),
            Mode::Throughput => gpu.then_some(THROUGHPUT_TARGET),
            Mode::Deterministic => None,
        };
        Self { target, len: MIN_CHUNK.min(n_batch), max: n_batch }
    }

    /// Returns the number of prompt tokens for the next batch.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adapts the size: a batch of `tokens` took `time`. Only batches with a full chunk are measured.
    pub(super) fn observe(&mut self, tokens: usize, time: Duration) {
        let Some(target) = self.target.filter(|_| tokens >= self.len) else { return };
        let fitting = tokens as f64 * target.as_secs_f64() / time.as_secs_f64().max(1e-6);
        // At most double or halve it: a single batch may have been slow because of the disk.
        let fitting = (fitting as usize).clamp(self.len / 2, self.len * 2);
        self.len = (fitting / MIN_CHUNK * MIN_CHUNK).clamp(MIN_CHUNK.min(self.max), self.max);
    }
}

/// Tokens that a running request has to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    /// Tokens to compute until its next token is known; never 0.
    pub(super) tokens: usize,
    /// Whether its answer has begun.
    pub(super) generates: bool,
}

/// Limits of one batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct TokenBudget {
    /// Maximum tokens in total.
    pub(super) n_batch: usize,
    /// Maximum tokens of prompts.
    pub(super) chunk: usize,
    /// Maximum number of requests that generate at the same time.
    pub(super) n_slots: usize,
    /// Whether there are requests beyond these, whose prompts are prefilled ahead.
    pub(super) prefills_ahead: bool,
}

/// Returns how many tokens each request computes in the next batch, given what is `pending`, oldest first. An answer
/// that has begun always computes its next token (if the batch is large enough). The prompts share the chunk, the
/// oldest first, so that they finish one after the other and not all at the end. A prompt without a free slot is
/// prefilled except for its last token. If all slots generate, at most one token per running answer is prefilled ahead.
pub(super) fn split_token_budget(pending: &[Pending], budget: TokenBudget) -> Vec<usize> {
    let generating = pending.iter().filter(|request| request.generates).count().min(budget.n_batch);
    let mut free_slots = budget.n_slots.saturating_sub(generating);
    let chunk = if budget.prefills_ahead && free_slots == 0 { generating } else { budget.chunk };
    let mut prefill = chunk.min(budget.n_batch - generating);
    let mut answers_left = generating;
    let tokens = |request: &Pending| {
        if request.generates {
            let n = answers_left.min(1);
            answers_left -= n;
            return n;
        }
        let mut n = request.tokens.min(prefill);
        if n == request.tokens {
            n -= usize::from(free_slots == 0);
            free_slots = free_slots.saturating_sub(1);
        }
        prefill -= n;
        n
    };
    pending.iter().map(tokens).collect()
}

/// Returns the length of the longest common prefix.
pub(super) fn common_prefix<T: PartialEq>(a: &[T], b: &[T]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::{ChunkSize, Duration, Mode, Pending, TokenBudget, common_prefix, split_token_budget};

    fn split(pending: &[(usize, bool)], budget: TokenBudget) -> Vec<usize> {
        let request = |(tokens, generates): &(usize, bool)| Pending { tokens: *tokens, generates: *generates };
        split_token_budget(&pending.iter().map(request).collect::<Vec<_>>(), budget)
    }

    const BUDGET: TokenBudget = TokenBudget { n_batch: 512, chunk: 64, n_slots: 4, prefills_ahead: false };

    #[test]
    fn running_answers_are_never_starved() {
        let (long, answer) = ((1000, false), (1, true));
        assert_eq!(split(&[long, answer, long, answer], BUDGET), [64, 1, 0, 1]);
        assert_eq!(split(&[(40, false), answer, long], BUDGET), [40, 1, 24]);
        assert_eq!(split(&[long, answer, answer], TokenBudget { n_batch: 3, ..BUDGET }), [1, 1, 1]);
        assert_eq!(split(&[answer, answer, answer], TokenBudget { n_batch: 2, ..BUDGET }), [1, 1, 0]);
        assert_eq!(split(&[], BUDGET), Vec::<usize>::new());
    }

    #[test]
    fn prefill_ahead_stops_before_the_last_token() {
        let budget = TokenBudget { n_slots: 2, prefills_ahead: true, ..BUDGET };
        let answer = (1, true);
        assert_eq!(split(&[answer, (1, false), (1, false)], budget), [1, 1, 0], "one slot is free: the oldest gets it");
        assert_eq!(split(&[answer, (30, false), (30, false)], budget), [1, 30, 29]);
        assert_eq!(
            split(&[answer, answer, (1, false), (30, false)], budget),
            [1, 1, 0, 2],
            "one token for each answer"
        );
        assert_eq!(split(&[answer, answer, (2, false), (30, false)], budget), [1, 1, 1, 1]);
        assert_eq!(split(&[(1, false), answer, answer], budget), [0, 1, 1], "an answer that has begun continues");
    }

    #[test]
    fn the_chunk_follows_the_measured_speed() {
        let mut chunk = ChunkSize::new(Mode::Interactive, false, 2048);
        assert_eq!(chunk.len(), 128);
        chunk.observe(128, Duration::from_millis(10));
        assert_eq!(chunk.len(), 256, "it at most doubles in one step");
        chunk.observe(1, Duration::from_secs(9));
        assert_eq!(chunk.len(), 256, "a batch of one token is not measured");
        for _ in 0..9 {
            chunk.observe(chunk.len(), Duration::from_millis(1));
        }
        assert_eq!(chunk.len(), 2048);
        for _ in 0..9 {
            chunk.observe(chunk.len(), Duration::from_secs(60));
        }
        assert_eq!(chunk.len(), 128);
        chunk.observe(150, Duration::ZERO);
        assert_eq!(ChunkSize::new(Mode::Throughput, true, 16).len(), 16);
        let mut bulk = ChunkSize::new(Mode::Throughput, false, 2048);
        bulk.observe(128, Duration::from_millis(1));
        assert_eq!(bulk.len(), 128, "longer chunks are no faster on a CPU");
        let mut same = ChunkSize::new(Mode::Deterministic, true, 2048);
        same.observe(128, Duration::from_millis(1));
        assert_eq!(same.len(), 128, "the output must not depend on time");
    }

    #[test]
    fn a_common_prefix_ends_at_the_first_difference() {
        assert_eq!(common_prefix(&[1, 2, 3], &[1, 2, 4]), 2);
        assert_eq!(common_prefix(&[1, 2], &[1, 2, 3]), 2);
        assert_eq!(common_prefix::<u8>(&[], &[]), 0);
    }
}
