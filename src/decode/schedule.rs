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
    /// Begins careful: on a slow machine the first slice of a 70B model must not take a minute. Without a GPU it stays so
    /// for records: longer slices are no faster there, and answers wait for them.
    pub(super) fn new(order: Order, gpu: bool, n_batch: usize) -> Self {
        let target = match order {
            Order::Talk => Some(TALK),
            Order::Bulk => gpu.then_some(BULK),
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

/// What a job waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Need {
    /// Tokens to compute until its next token is known; never 0.
    pub(super) pending: usize,
    /// Whether its answer has begun.
    pub(super) generates: bool,
}

/// The rows of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// At most so many in all.
    pub(super) n_batch: usize,
    /// Of prompts.
    pub(super) slice: usize,
    /// Answers at the same time.
    pub(super) n_slots: usize,
    /// Whether there are jobs beyond these, whose prompts are read ahead.
    pub(super) ahead: bool,
}

/// How many tokens each job may decode now, given what they `need`, oldest first. An answer that has begun always gets
/// its next token; the prompts share a slice, the oldest first, so that they finish one after the other instead of all at
/// the end. A prompt without a free slot among the `n_slots` is prefilled except for its last token. While every slot
/// generates, one token of prompts is prefilled ahead for each running answer.
pub(super) fn shares(needs: &[Need], room: Room) -> Vec<usize> {
    let generating = needs.iter().filter(|need| need.generates).count().min(room.n_batch);
    let mut places = room.n_slots.saturating_sub(generating);
    let slice = if room.ahead && places == 0 { generating } else { room.slice };
    let mut prefill = slice.min(room.n_batch - generating);
    let mut left = generating;
    let share = |need: &Need| {
        if need.generates {
            let share = left.min(1);
            left -= share;
            return share;
        }
        let mut share = need.pending.min(prefill);
        if share == need.pending {
            share -= usize::from(places == 0);
            places = places.saturating_sub(1);
        }
        prefill -= share;
        share
    };
    needs.iter().map(share).collect()
}

/// Length of the longest common prefix.
pub(super) fn common_prefix<T: PartialEq>(a: &[T], b: &[T]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::{Duration, Need, Order, Pace, Room, common_prefix, shares};

    fn given(needs: &[(usize, bool)], room: Room) -> Vec<usize> {
        let need = |(pending, generates): &(usize, bool)| Need { pending: *pending, generates: *generates };
        shares(&needs.iter().map(need).collect::<Vec<_>>(), room)
    }

    const ROOM: Room = Room { n_batch: 512, slice: 64, n_slots: 4, ahead: false };

    #[test]
    fn running_answers_are_never_starved() {
        let (long, answer) = ((1000, false), (1, true));
        assert_eq!(given(&[long, answer, long, answer], ROOM), [64, 1, 0, 1]);
        assert_eq!(given(&[(40, false), answer, long], ROOM), [40, 1, 24]);
        assert_eq!(given(&[long, answer, answer], Room { n_batch: 3, ..ROOM }), [1, 1, 1]);
        assert_eq!(given(&[answer, answer, answer], Room { n_batch: 2, ..ROOM }), [1, 1, 0]);
        assert_eq!(given(&[], ROOM), Vec::<usize>::new());
    }

    #[test]
    fn a_prompt_read_ahead_waits_for_a_place_with_its_last_token() {
        let room = Room { n_slots: 2, ahead: true, ..ROOM };
        let answer = (1, true);
        assert_eq!(given(&[answer, (1, false), (1, false)], room), [1, 1, 0], "one place is left: the oldest's");
        assert_eq!(given(&[answer, (30, false), (30, false)], room), [1, 30, 29]);
        assert_eq!(given(&[answer, answer, (1, false), (30, false)], room), [1, 1, 0, 2], "a row for each answer");
        assert_eq!(given(&[answer, answer, (2, false), (30, false)], room), [1, 1, 1, 1]);
        assert_eq!(given(&[(1, false), answer, answer], room), [0, 1, 1], "who has begun goes on");
    }

    #[test]
    fn the_slice_follows_the_measured_speed() {
        let mut pace = Pace::new(Order::Talk, false, 2048);
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
        assert_eq!(Pace::new(Order::Bulk, true, 16).slice(), 16);
        let mut bulk = Pace::new(Order::Bulk, false, 2048);
        bulk.observe(128, Duration::from_millis(1));
        assert_eq!(bulk.slice(), 128, "a longer one gains nothing on a CPU");
        let mut same = Pace::new(Order::Same, true, 2048);
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
