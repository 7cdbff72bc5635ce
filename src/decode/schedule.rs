//! What goes into the next batch: one token of every running answer, and a slice of the prompts that is short enough for
//! Ctrl-C and progress to stay alive. Pure arithmetic; no slot is touched here.

use super::Order;
use std::time::Duration;

/// How long one batch should take while a person waits: what progress and the next word of another answer wait for.
const TALK: Duration = Duration::from_millis(500);
/// The same in a batch of records, where nobody waits for a word.
const BULK: Duration = Duration::from_secs(4);
/// Tokens in the shortest slice: in slices of 64 a prompt takes a tenth more time than in one piece, in slices of 32 half
/// as much again.
pub(super) const SLICE_MIN: usize = 128;

/// The number of prompt tokens that take as long as a batch should, learned from the batches before.
#[derive(Debug)]
pub(super) struct Pace {
    /// None: the slice stays as it is.
    target: Option<Duration>,
    slice: usize,
    max: usize,
}

impl Pace {
    /// Begins careful: on a slow machine the first slice of a 70B model must not take a minute.
    pub(super) fn new(order: Order, n_batch: usize) -> Self {
        let target = match order {
            Order::Talk => Some(TALK),
            Order::Bulk => Some(BULK),
            Order::Same => None,
        };
        Self { target, slice: SLICE_MIN.min(n_batch), max: n_batch }
    }

    /// Prompt tokens for the next batch.
    pub(super) fn slice(&self) -> usize {
        self.slice
    }

    /// A batch of `tokens` took `time`. Batches without a full slice say little about the speed of a full one.
    pub(super) fn observe(&mut self, tokens: usize, time: Duration) {
        let Some(target) = self.target.filter(|_| tokens >= self.slice) else { return };
        let fitting = tokens as f64 * target.as_secs_f64() / time.as_secs_f64().max(1e-6);
        // A step of at most two: one batch that waited for the disk does not say much either.
        let fitting = (fitting as usize).clamp(self.slice / 2, self.slice * 2);
        self.slice = (fitting / SLICE_MIN * SLICE_MIN).clamp(SLICE_MIN.min(self.max), self.max);
    }
}

/// How many tokens each job may decode now, given how many it has `pending`, oldest first. A job with one token pending
/// is generating and always gets it; the others share a slice, the oldest first, so that prompts finish one after the
/// other instead of all at the end.
pub(super) fn shares(pending: &[usize], slice: usize, n_batch: usize) -> Vec<usize> {
    let generating = pending.iter().filter(|n| **n == 1).count().min(n_batch);
    let mut room = n_batch - generating;
    let mut prefill = slice.min(room);
    let mut left = generating;
    pending
        .iter()
        .map(|n| {
            if *n == 1 && left > 0 {
                left -= 1;
                return 1;
            }
            let share = (*n).min(prefill).min(room);
            prefill -= share;
            room -= share;
            share
        })
        .collect()
}

/// Length of the longest common prefix.
pub(super) fn common_prefix<T: PartialEq>(a: &[T], b: &[T]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::{Duration, Order, Pace, common_prefix, shares};

    #[test]
    fn running_answers_are_never_starved() {
        assert_eq!(shares(&[1000, 1, 1000, 1], 64, 512), [64, 1, 0, 1]);
        assert_eq!(shares(&[40, 1, 1000], 64, 512), [40, 1, 24]);
        assert_eq!(shares(&[1000, 1, 1], 64, 3), [1, 1, 1]);
        assert_eq!(shares(&[1, 1, 1], 64, 2), [1, 1, 0]);
        assert_eq!(shares(&[], 64, 512), Vec::<usize>::new());
    }

    #[test]
    fn the_slice_follows_the_measured_speed() {
        let mut pace = Pace::new(Order::Talk, 2048);
        assert_eq!(pace.slice(), 128);
        pace.observe(128, Duration::from_millis(10));
        assert_eq!(pace.slice(), 256, "one step is at most a doubling");
        pace.observe(1, Duration::from_secs(9));
        assert_eq!(pace.slice(), 256, "a batch of one token says nothing about prefill");
        for _ in 0..9 {
            pace.observe(pace.slice(), Duration::from_millis(1));
        }
        assert_eq!(pace.slice(), 2048);
        for _ in 0..9 {
            pace.observe(pace.slice(), Duration::from_secs(60));
        }
        assert_eq!(pace.slice(), 128);
        pace.observe(150, Duration::ZERO);
        assert_eq!(Pace::new(Order::Bulk, 16).slice(), 16);
        let mut same = Pace::new(Order::Same, 2048);
        same.observe(128, Duration::from_millis(1));
        assert_eq!(same.slice(), 128, "where bytes must not depend on time");
    }

    #[test]
    fn a_common_prefix_ends_at_the_first_difference() {
        assert_eq!(common_prefix(&[1, 2, 3], &[1, 2, 4]), 2);
        assert_eq!(common_prefix(&[1, 2], &[1, 2, 3]), 2);
        assert_eq!(common_prefix::<u8>(&[], &[]), 0);
    }
}
