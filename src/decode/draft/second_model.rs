//! Guesses from a second, smaller model with the same vocabulary. Its KV cache follows the tokens of the slots: it keeps
//! the common beginning, drops the rest, and shares prefixes between slots.

use super::guess::Guess;
use super::rates::Rates;
use super::subject::Subject;
use crate::decode::kv_cells::KvCells;
use crate::decode::token_budget::common_prefix;
use crate::engine::{Context, Model, Token};
use crate::error::Failure;
use crate::interrupt::Interrupt;
use std::time::{Duration, Instant};

/// Tokens with a smaller probability are not guessed.
const PROBABILITY_MIN: f64 = 0.3;
/// Minimum additional tokens for which a prefix is copied from another sequence.
const SHARE_MIN: usize = 16;
/// So many tokens that are missing in the cache are computed in the pass that guesses the first token.
const CATCH_UP_MAX: usize = 32;
/// Weight of a new measurement.
const NEW: f64 = 0.2;

/// The second model with its KV cache.
#[derive(Debug)]
pub(super) struct SecondModel<'m> {
    context: Context<'m>,
    sequences: Vec<Sequence>,
    cells: KvCells,
    /// Size of its vocabulary.
    n_vocab: usize,
    /// Size of the main model's vocabulary.
    n_vocab_main: usize,
    /// Mean time of a pass that guesses one token for each slot, in seconds.
    pass_seconds: Option<f64>,
    /// Seconds of the last guesses, without the prefill of prompts.
    spent: f64,
}

/// The tokens of one slot in the cache.
#[derive(Debug, Default)]
struct Sequence {
    tokens: Vec<Token>,
    cells: Vec<u32>,
}

impl<'m> SecondModel<'m> {
    /// Creates the context of `model`, which was loaded for as many sequences as the model `main`.
    pub(super) fn new(model: &'m Model, main: &Model, interrupt: &Interrupt) -> Result<Self, Failure> {
        let context = model.context(interrupt)?;
        let n_vocab = |model: &Model| usize::try_from(model.vocab().len()).unwrap_or(0);
        Ok(Self {
            n_vocab: n_vocab(model),
            n_vocab_main: n_vocab(main),
            sequences: (0..context.n_seqs()).map(|_| Sequence::default()).collect(),
            cells: KvCells::new(context.n_cells()),
            context,
            pass_seconds: None,
            spent: 0.0,
        })
    }

    /// Returns the seconds of one guess for each slot; `None` before the first.
    pub(super) fn seconds(&self) -> Option<f64> {
        self.pass_seconds
    }

    /// Returns the seconds that the last guesses took, without the prefill of prompts: it is needed once, whatever is
    /// guessed.
    pub(super) fn spent(&self) -> f64 {
        self.spent
    }

    /// Guesses up to `n` tokens for each of `subjects`. The result has one guess for each; all are empty if the cache
    /// is too small, or if the computation was interrupted.
    pub(super) fn guess(&mut self, subjects: &mut [Subject<'_>], n: usize) -> Result<Vec<Guess>, Failure> {
        self.spent = 0.0;
        let mut guesses = vec![Guess::default(); subjects.len()];
        // One of the vocabularies may end with additional tokens without text.
        let known = |token: &Token| usize::try_from(token.0).is_ok_and(|id| id < self.n_vocab);
        let fits = |subject: &Subject<'_>| {
            subject.n_max > 0
                && subject.slot < self.sequences.len()
                && subject.ids.len() + n < self.context.n_ctx()
                && subject.ids.iter().all(known)
        };
        let mut active: Vec<usize> = (0..subjects.len()).filter(|i| fits(&subjects[*i])).collect();
        if active.is_empty() || !self.prepare(subjects, &active, n)? {
            return Ok(guesses);
        }
        // The tokens that each sequence computes next.
        let mut feed: Vec<Vec<Token>> = Vec::new();
        for i in &active {
            feed.push(subjects[*i].ids[self.sequences[subjects[*i].slot].tokens.len()..].to_vec());
        }
        let began = Instant::now();
        for step in 0..n {
            let slots: Vec<usize> = active.iter().map(|i| subjects[*i].slot).collect();
            let Some(rows) = self.compute(&slots, &feed)? else { break };
            let (mut next, mut next_feed) = (Vec::new(), Vec::new());
            for (i, row) in active.iter().zip(rows) {
                let logits = self.context.logits(row)?;
                let logits = &logits[..logits.len().min(self.n_vocab_main)];
                let Some(proposer) = &mut subjects[*i].proposer else { continue };
                let Some((token, proposal)) = proposer.propose(logits, PROBABILITY_MIN) else { continue };
                guesses[*i].push(token, Rates::SECOND_MODEL, Some(proposal));
                if step + 1 < n.min(subjects[*i].n_max) {
                    next.push(*i);
                    next_feed.push(vec![token]);
                }
            }
            (active, feed) = (next, next_feed);
            if active.is_empty() {
                break;
            }
        }
        // At most twice the usual time: the machine may have been busy for a moment.
        let usual = self.pass_seconds.map_or(f64::INFINITY, |pass| 2.0 * pass * n as f64);
        self.spent = began.elapsed().as_secs_f64().min(usual);
        Ok(guesses)
    }

    /// Brings the caches of the active subjects up to their last tokens, and frees the cells for `n` guesses. Returns
    /// false if the cache is too small, or if it was interrupted.
    fn prepare(&mut self, subjects: &[Subject<'_>], active: &[usize], n: usize) -> Result<bool, Failure> {
        let slots: Vec<usize> = active.iter().map(|i| subjects[*i].slot).collect();
        let mut missing = 0;
        for i in active {
            self.reuse(subjects[*i].slot, subjects[*i].ids)?;
            missing += subjects[*i].ids.len() - self.sequences[subjects[*i].slot].tokens.len() + n;
        }
        for slot in 0..self.sequences.len() {
            if self.cells.n_free() >= missing {
                break;
            }
            if !slots.contains(&slot) {
                self.truncate(slot, 0)?;
            }
        }
        if self.cells.n_free() < missing {
            return Ok(false);
        }
        for i in active {
            let (slot, ids) = (subjects[*i].slot, subjects[*i].ids);
            while ids.len() - self.sequences[slot].tokens.len() > CATCH_UP_MAX {
                let from = self.sequences[slot].tokens.len();
                let to = (from + self.context.n_batch()).min(ids.len() - 1);
                if self.compute(&[slot], &[ids[from..to].to_vec()])?.is_none() {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Keeps the common beginning of the cached tokens of `slot` and `ids`, or copies a longer one from another slot. At
    /// least the last token remains to be computed.
    fn reuse(&mut self, slot: usize, ids: &[Token]) -> Result<(), Failure> {
        let common = |sequence: &Sequence| common_prefix(&sequence.tokens, ids).min(ids.len() - 1);
        let own = common(&self.sequences[slot]);
        let other = (0..self.sequences.len()).map(|from| (common(&self.sequences[from]), from)).max();
        match other {
            Some((len, from)) if len >= own + SHARE_MIN => {
                self.truncate(slot, 0)?;
                self.context.copy_prefix(from, slot, len)?;
                let cells = self.cells.retain(&self.sequences[from].cells[..len]);
                self.sequences[slot] = Sequence { tokens: ids[..len].to_vec(), cells };
                Ok(())
            }
            _ => self.truncate(slot, own),
        }
    }

    fn truncate(&mut self, slot: usize, len: usize) -> Result<(), Failure> {
        let sequence = &mut self.sequences[slot];
        if sequence.tokens.len() > len {
            self.context.truncate(slot, len)?;
            sequence.tokens.truncate(len);
            self.cells.release(sequence.cells.drain(len..));
        }
        Ok(())
    }

    /// Computes the tokens `feed` of the `slots` in one pass. Returns the row of the logits of each slot's last token;
    /// `None` if it was interrupted.
    fn compute(&mut self, slots: &[usize], feed: &[Vec<Token>]) -> Result<Option<Vec<usize>>, Failure> {
        let began = Instant::now();
        self.context.clear_batch();
        let mut rows = Vec::new();
        for (slot, tokens) in slots.iter().zip(feed) {
            let mut row = 0;
            for (n, token) in tokens.iter().enumerate() {
                row =
                    self.context.push(*token, self.sequences[*slot].tokens.len() + n, *slot, n + 1 == tokens.len())?;
            }
            rows.push(row);
        }
        if !self.context.decode()? {
            for slot in slots {
                self.context.truncate(*slot, self.sequences[*slot].tokens.len())?;
            }
            return Ok(None);
        }
        for (slot, tokens) in slots.iter().zip(feed) {
            let cells = self.cells.alloc(tokens.len())?;
            self.sequences[*slot].tokens.extend_from_slice(tokens);
            self.sequences[*slot].cells.extend(cells);
        }
        if feed.iter().all(|tokens| tokens.len() == 1) {
            self.observe(began.elapsed());
        }
        Ok(Some(rows))
    }

    fn observe(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        self.pass_seconds =
            Some(self.pass_seconds.map_or(seconds, |mean| mean + NEW * (seconds.min(2.0 * mean) - mean)));
    }
}
