//! Admission, prefix sharing and preemption. A request waits until the KV cache has enough free cells, or until another
//! request has computed a prefix that both share. Common prefixes are found by comparing tokens; callers do not declare
//! them. If the running requests fill the cache, the newest is preempted: it waits, only the cells that others need are
//! evicted, and their tokens are computed again later.

use super::kv_cells::KvCells;
use super::request::{Event, Mode, RequestId};
use super::slot::{Slot, SlotState};
use super::token_budget::{ChunkSize, MIN_CHUNK, Pending, TokenBudget, common_prefix, split_token_budget};
use crate::engine::{Context, Token};
use crate::error::Failure;
use std::cmp::Reverse;
use std::time::Duration;

/// Minimum length of a shared prefix, in tokens.
const SHARE_MIN: usize = 16;
/// Cells for each running request, including the new one, that must stay free when a request is admitted. With fewer,
/// it would soon be preempted.
const SPARE_CELLS: usize = 32;

/// While there is an empty slot, a request takes over another only if at most this many tokens are lost: the end of an answer
/// that is tokenized differently in the next turn.
const LOSS_MAX: usize = 8;

/// No slot that keeps cells when others are evicted.
const NOTHING: (usize, usize) = (usize::MAX, 0);

/// The scheduler: decides which slots compute next.
#[derive(Debug)]
pub(super) struct Scheduler {
    pub(super) slots: Vec<Slot>,
    pub(super) cells: KvCells,
    mode: Mode,
    chunk: ChunkSize,
    n_batch: usize,
    /// Sequences that generate at the same time; `slots` can be more.
    n_slots: usize,
}

impl Scheduler {
    /// Creates a scheduler for the sequences of `context`. `gpu`: layers are offloaded to a GPU.
    pub(super) fn new(context: &Context<'_>, mode: Mode, gpu: bool) -> Self {
        Self {
            slots: (0..context.n_seqs()).map(|_| Slot::default()).collect(),
            cells: KvCells::new(context.n_cells()),
            mode,
            chunk: ChunkSize::new(mode, gpu, context.n_batch()),
            n_batch: context.n_batch(),
            n_slots: context.n_slots(),
        }
    }

    /// Admits the waiting requests that can be computed now, the oldest first.
    pub(super) fn admit(&mut self, context: &mut Context<'_>) -> Result<(), Failure> {
        let mut waiting: Vec<usize> = (0..self.slots.len()).filter(|i| self.slots[*i].is_waiting()).collect();
        waiting.sort_by_key(|i| self.slots[*i].last_request);
        for i in waiting {
            let running = self.slots.iter().filter(|slot| slot.is_running()).count();
            let in_prefill = self.slots.iter().filter(|slot| slot.is_running() && !slot.is_generating());
            let to_prefill: usize = in_prefill.map(|slot| slot.pending().len()).sum();
            let one_at_a_time = self.mode == Mode::Deterministic && running > 0;
            // This batch has no tokens left for it; later it may share a longer prefix.
            let no_budget = to_prefill > self.chunk.len();
            if one_at_a_time || no_budget {
                break;
            }
            let own = self.reusable(i, i);
            let others = || (0..self.slots.len()).filter(|from| *from != i);
            let later = others().map(|from| self.reusable_later(from, i)).max().unwrap_or(0);
            let (best, best_slot) = others().map(|from| (self.reusable(from, i), from)).max().unwrap_or((0, i));
            if later >= own.max(best) + SHARE_MIN {
                continue;
            }
            let (from, len) = if best > own { (best_slot, best) } else { (i, own) };
            let n_ids = self.slots[i].request().map_or(0, |request| request.ids.len());
            let spare = if running > 0 { SPARE_CELLS * (running + 1) } else { 0 };
            if !self.evict_until_free(context, n_ids - len + spare, (from, len), |slot| !slot.is_running())? {
                break;
            }
            self.start(context, i, from, len)?;
        }
        Ok(())
    }

    /// Evicts cells until `n` are free: from the slots for which `may_evict` holds, the least recently used first, and
    /// from each slot the last cells first. Slot `keep.0` keeps its first `keep.1` tokens. If this cannot free enough
    /// cells, evicts nothing and returns false.
    fn evict_until_free(
        &mut self,
        context: &mut Context<'_>,
        n: usize,
        keep: (usize, usize),
        may_evict: impl Fn(&Slot) -> bool,
    ) -> Result<bool, Failure> {
        let mut candidates: Vec<usize> = (0..self.slots.len()).filter(|i| may_evict(&self.slots[*i])).collect();
        candidates.sort_by_key(|i| (*i == keep.0, self.slots[*i].is_waiting(), self.slots[*i].last_request));
        let held = |i: usize| (i, self.slots[i].cells.as_slice(), if i == keep.0 { keep.1 } else { 0 });
        let Some(evictions) = self.cells.plan_eviction(n, candidates.into_iter().map(held)) else { return Ok(false) };
        for (i, len) in evictions {
            self.truncate(context, i, len)?;
        }
        Ok(true)
    }

    /// Returns the tokens of the next batch, as (slot, number of tokens). If the cache is full, the newest requests are
    /// preempted until there are enough cells. The oldest is never preempted, because one context always fits into the
    /// cache.
    pub(super) fn next_batch(&mut self, context: &mut Context<'_>) -> Result<Vec<(usize, usize)>, Failure> {
        loop {
            let mut running: Vec<usize> = (0..self.slots.len()).filter(|i| self.slots[*i].is_running()).collect();
            running.sort_by_key(|i| self.slots[*i].last_request);
            let pending = |i: &usize| Pending {
                tokens: self.slots[*i].pending().len(),
                generates: self.slots[*i].is_generating(),
            };
            let budgets = split_token_budget(&running.iter().map(pending).collect::<Vec<_>>(), self.token_budget());
            let n = budgets.iter().sum();
            if self.evict_until_free(context, n, NOTHING, |slot| !slot.is_running())? || running.len() < 2 {
                return Ok(running.into_iter().zip(budgets).filter(|(_, n)| *n > 0).collect());
            }
            if let Some(newest) = running.pop() {
                self.slots[newest].preempt();
            }
        }
    }

    /// Frees cells of idle slots until `n` are free; returns whether there are enough. For guesses, no waiting request
    /// loses its cells.
    pub(super) fn free_idle(&mut self, context: &mut Context<'_>, n: usize) -> Result<bool, Failure> {
        self.evict_until_free(context, n, NOTHING, Slot::is_idle)
    }

    fn token_budget(&self) -> TokenBudget {
        TokenBudget {
            n_batch: self.n_batch,
            chunk: self.chunk.len(),
            n_slots: self.n_slots,
            prefills_ahead: self.slots.len() > self.n_slots,
        }
    }

    /// Adapts the prefill chunk: a batch of `tokens` took `time`.
    pub(super) fn observe(&mut self, tokens: usize, time: Duration) {
        self.chunk.observe(tokens, time);
    }

    /// Records that the next `n` pending tokens of slot `i` are now in the KV cache.
    pub(super) fn advance(&mut self, i: usize, n: usize) -> Result<Option<(RequestId, Event)>, Failure> {
        let cells = self.cells.alloc(n)?;
        self.slots[i].advance(cells)
    }

    /// Records that the guessed `tokens` of slot `i`, which were accepted, are in the KV cache; removes those after
    /// them.
    pub(super) fn keep_guessed(
        &mut self,
        context: &mut Context<'_>,
        i: usize,
        tokens: &[Token],
    ) -> Result<(), Failure> {
        let cells = self.cells.alloc(tokens.len())?;
        self.slots[i].keep_guessed(tokens, cells);
        context.truncate(i, self.slots[i].cached.len())
    }

    /// Returns an idle slot for `ids`: the slot with the longest common prefix, if it would lose no more tokens than it
    /// reuses; otherwise the least recently used slot, which can share the prefix. So a new conversation does not replace
    /// a long one that only begins in the same way. While there is an empty slot, a slot may lose a few tokens only.
    pub(super) fn idle_slot(&self, ids: &[Token]) -> Option<usize> {
        let idle = || (0..self.slots.len()).filter(|i| self.slots[*i].is_idle());
        let has_empty = idle().any(|i| self.slots[i].cached.is_empty());
        let common = |i: &usize| {
            let cached = &self.slots[*i].cached;
            let n = common_prefix(cached, ids);
            if n < SHARE_MIN || cached.len() - n > (if has_empty { LOSS_MAX } else { n }) { 0 } else { n }
        };
        idle().max_by_key(|i| (common(i), Reverse((self.slots[*i].last_request, *i))))
    }

    /// Removes the tokens of slot `i` from position `len` on.
    pub(super) fn truncate(&mut self, context: &mut Context<'_>, i: usize, len: usize) -> Result<(), Failure> {
        let slot = &mut self.slots[i];
        if slot.cached.len() > len {
            context.truncate(i, len)?;
            slot.cached.truncate(len);
            slot.chunked_len = slot.chunked_len.min(len);
            self.cells.release(slot.cells.drain(len..));
        }
        Ok(())
    }

    /// Replaces the cells of the longest beginning that idle slot `i` shares with another slot by those of the other.
    pub(super) fn share_loaded(&mut self, context: &mut Context<'_>, i: usize) -> Result<(), Failure> {
        let others = (0..self.slots.len()).filter(|from| *from != i);
        let shared = |from: usize| (common_prefix(&self.slots[from].cached, &self.slots[i].cached), from);
        let Some((len, from)) = others.map(shared).max().filter(|(len, _)| *len >= SHARE_MIN) else { return Ok(()) };
        if self.slots[from].cells[..len] == self.slots[i].cells[..len] {
            return Ok(());
        }
        context.remove_prefix(i, len)?;
        context.copy_prefix(from, i, len)?;
        let cells = self.cells.retain(&self.slots[from].cells[..len]);
        let own: Vec<u32> = self.slots[i].cells.splice(..len, cells).collect();
        self.cells.release(own);
        Ok(())
    }

    /// Starts the request of slot `i` with the first `len` tokens of slot `from`, which can be the same slot.
    fn start(&mut self, context: &mut Context<'_>, i: usize, from: usize, len: usize) -> Result<(), Failure> {
        self.truncate(context, i, if from == i { len } else { 0 })?;
        if from != i && len > 0 {
            context.copy_prefix(from, i, len)?;
            let cells = self.cells.retain(&self.slots[from].cells[..len]);
            let cached = self.slots[from].cached[..len].to_vec();
            let chunked_len = self.slots[from].chunked_len.min(len);
            let slot = &mut self.slots[i];
            (slot.cached, slot.cells, slot.chunked_len) = (cached, cells, chunked_len);
        }
        self.slots[i].start(len);
        Ok(())
    }

    /// Returns how many tokens of slot `i`'s request are cached in slot `from`. At least the last one must be computed,
    /// for its logits.
    fn reusable(&self, from: usize, i: usize) -> usize {
        let (slot, Some(request)) = (&self.slots[from], self.slots[i].request()) else { return 0 };
        self.exact(slot.chunked_len, common_prefix(&slot.cached, &request.ids).min(request.ids.len() - 1))
    }

    /// Like [`Self::reusable`], but for the time after the prefill of the request that runs in slot `from`.
    fn reusable_later(&self, from: usize, i: usize) -> usize {
        let (slot, Some(request)) = (&self.slots[from], self.slots[i].request()) else { return 0 };
        match &slot.state {
            SlotState::Running(other) if slot.cached.len() < other.n_prompt => {
                let n = common_prefix(&other.ids[..other.n_prompt], &request.ids);
                self.exact(other.n_prompt, n.min(request.ids.len() - 1))
            }
            _ => 0,
        }
    }

    /// Returns how many of `n` shared tokens may be reused. In deterministic mode these are whole chunks only:
    /// computing them again would give bit-identical keys and values.
    fn exact(&self, chunked_len: usize, n: usize) -> usize {
        match self.mode {
            Mode::Deterministic => n.min(chunked_len) / MIN_CHUNK * MIN_CHUNK,
            Mode::Interactive | Mode::Throughput => n,
        }
    }
}
