//! Who is computed now: jobs wait until the KV cache has room for them, or until the beginning that they have in common
//! with another job is computed, which they then share instead of computing it again. Prefixes are found from the tokens;
//! nobody declares them. When the running answers fill the cache, the newest request is preempted: it waits, keeps of its cells what others do not need, and
//! computes the rest again later.

use super::schedule::{Need, Room, SLICE_MIN, common_prefix, shares};
use super::slot::Work;
use super::{Decoder, Order};
use crate::engine::Token;
use crate::error::Failure;
use std::cmp::Reverse;

/// A beginning is shared when that saves at least so many tokens.
const SHARE_MIN: usize = 16;
/// Free cells that a job has to leave for each running answer to grow: with fewer, it would soon have to step back.
const ROOM: usize = 32;

impl Decoder<'_> {
    /// Lets in the jobs that can be computed now, the oldest first.
    pub(super) fn admit(&mut self) -> Result<(), Failure> {
        let mut waiting: Vec<usize> = (0..self.slots.len()).filter(|i| self.slots[*i].waits()).collect();
        waiting.sort_by_key(|i| self.slots[*i].last);
        for i in waiting {
            let running = self.slots.iter().filter(|slot| slot.runs()).count();
            let reading = self.slots.iter().filter(|slot| slot.runs() && !slot.generates());
            let unread: usize = reading.map(|slot| slot.pending().len()).sum();
            let one_at_a_time = self.order == Order::Same && running > 0;
            // It would get no row now, and by its turn there may be more that it can share.
            let no_turn = unread > self.pace.slice();
            if one_at_a_time || no_turn {
                break;
            }
            let own = self.holds(i, i);
            let others = || (0..self.slots.len()).filter(|from| *from != i);
            let later = others().map(|from| self.will_hold(from, i)).max().unwrap_or(0);
            let (now, from) = others().map(|from| (self.holds(from, i), from)).max().unwrap_or((0, i));
            if later >= own.max(now) + SHARE_MIN {
                continue;
            }
            let (from, len) = if now > own { (from, now) } else { (i, own) };
            let n_ids = self.slots[i].job().map_or(0, |job| job.ids.len());
            let room = if running > 0 { ROOM * (running + 1) } else { 0 };
            if !self.make_room(n_ids - len + room, (from, len))? {
                break;
            }
            self.begin_with(i, from, len)?;
        }
        Ok(())
    }

    /// Frees cells until there are `n`, of slots that compute nothing now, the longest idle first, and of each its last
    /// cells first. Slot `keep.0` loses only what follows its first `keep.1` tokens. Where that would not be enough, nothing
    /// is lost.
    pub(super) fn make_room(&mut self, n: usize, keep: (usize, usize)) -> Result<bool, Failure> {
        let mut resting: Vec<usize> = (0..self.slots.len()).filter(|i| !self.slots[*i].runs()).collect();
        resting.sort_by_key(|i| (*i == keep.0, self.slots[*i].waits(), self.slots[*i].last));
        let held = |i: usize| (i, self.slots[i].cells.as_slice(), if i == keep.0 { keep.1 } else { 0 });
        let Some(cuts) = self.pool.cuts(n, resting.into_iter().map(held)) else { return Ok(false) };
        for (i, len) in cuts {
            self.cut(i, len)?;
        }
        Ok(true)
    }

    /// What the running jobs compute next, as (slot, tokens). When the cache has no room for it, the youngest steps
    /// back until it has; the oldest never does, since a window is never larger than the cache.
    pub(super) fn shares(&mut self) -> Result<Vec<(usize, usize)>, Failure> {
        loop {
            let mut running: Vec<usize> = (0..self.slots.len()).filter(|i| self.slots[*i].runs()).collect();
            // The oldest request is served first.
            running.sort_by_key(|i| self.slots[*i].last);
            let need =
                |i: &usize| Need { pending: self.slots[*i].pending().len(), generates: self.slots[*i].generates() };
            let shares = shares(&running.iter().map(need).collect::<Vec<_>>(), self.room());
            if self.make_room(shares.iter().sum(), (usize::MAX, 0))? || running.len() < 2 {
                return Ok(running.into_iter().zip(shares).filter(|(_, n)| *n > 0).collect());
            }
            if let Some(youngest) = running.pop() {
                self.slots[youngest].step_back();
            }
        }
    }

    /// The rows of the next batch.
    fn room(&self) -> Room {
        let (n_batch, n_slots) = (self.context.n_batch(), self.context.n_slots());
        Room { n_batch, slice: self.pace.slice(), n_slots, ahead: self.slots.len() > n_slots }
    }

    /// An idle slot for `ids`: the one that begins like them, else the one that was idle longest.
    pub(super) fn idle_slot(&self, ids: &[Token]) -> Option<usize> {
        let common = |i: &usize| match common_prefix(&self.slots[*i].cached, ids) {
            n if n < SHARE_MIN => 0,
            n => n,
        };
        let idle = (0..self.slots.len()).filter(|i| self.slots[*i].is_idle());
        idle.max_by_key(|i| (common(i), Reverse((self.slots[*i].last, *i))))
    }

    /// Forgets what slot `i` holds from position `len` on.
    pub(super) fn cut(&mut self, i: usize, len: usize) -> Result<(), Failure> {
        let slot = &mut self.slots[i];
        if slot.cached.len() > len {
            self.context.truncate(i, len)?;
            slot.cached.truncate(len);
            slot.sliced = slot.sliced.min(len);
            self.pool.give(slot.cells.drain(len..));
        }
        Ok(())
    }

    /// Slot `i` begins its job with the first `len` tokens of slot `from`, which may be itself.
    fn begin_with(&mut self, i: usize, from: usize, len: usize) -> Result<(), Failure> {
        self.cut(i, if from == i { len } else { 0 })?;
        if from != i && len > 0 {
            self.context.copy_prefix(from, i, len)?;
            let (cached, cells) =
                (self.slots[from].cached[..len].to_vec(), self.pool.share(&self.slots[from].cells[..len]));
            let sliced = self.slots[from].sliced.min(len);
            let slot = &mut self.slots[i];
            (slot.cached, slot.cells, slot.sliced) = (cached, cells, sliced);
        }
        self.slots[i].let_in(len);
        Ok(())
    }

    /// How many tokens that slot `i` needs are in slot `from`. The last one is computed in any case: its logits go on with
    /// the answer.
    fn holds(&self, from: usize, i: usize) -> usize {
        let (slot, Some(job)) = (&self.slots[from], self.slots[i].job()) else { return 0 };
        self.usable(slot.sliced, common_prefix(&slot.cached, &job.ids).min(job.ids.len() - 1))
    }

    /// How many of them a running job is about to compute.
    fn will_hold(&self, from: usize, i: usize) -> usize {
        let (slot, Some(job)) = (&self.slots[from], self.slots[i].job()) else { return 0 };
        match &slot.work {
            Work::Running(other) if slot.cached.len() < other.n_prompt => {
                let n = common_prefix(&other.ids[..other.n_prompt], &job.ids);
                self.usable(other.n_prompt, n.min(job.ids.len() - 1))
            }
            _ => 0,
        }
    }

    /// Of `n` tokens in common, those that computing would give to the last bit, where that is asked for.
    fn usable(&self, sliced: usize, n: usize) -> usize {
        match self.order {
            Order::Same => n.min(sliced) / SLICE_MIN * SLICE_MIN,
            Order::Talk | Order::Bulk => n,
        }
    }
}
