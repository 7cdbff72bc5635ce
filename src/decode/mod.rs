//! The decode loop: requests in, text out, several at once (continuous batching). Chat is a batch of one.
//!
//! A request is the whole list of tokens of a conversation. It gets the slot whose cache agrees with it longest, or shares
//! what agrees with another slot that is in use; only what is new is computed. So a caller never says what
//! happened since the last turn, and a cache can never disagree with the conversation. Not here: how messages become
//! tokens (`prompt/`), and what becomes of the text (`chat/`, `batch/`).

mod admit;
mod choose;
mod job;
mod logprobs;
mod pool;
mod schedule;
mod slot;
mod state;
mod stop;
mod utf8;

pub(crate) use job::{Answer, Reason};
pub(crate) use logprobs::{Likely, TokenLogprob};
pub(crate) use stop::TURN_MARKERS;
#[cfg(test)]
pub(crate) use utf8::Utf8;

use crate::engine::{Context, Model, Sampling, Token, Vocab};
use crate::error::{Code, Failure};
use crate::interrupt::Interrupt;
use choose::{Choice, Chosen, choose};
use job::Job;
use pool::Pool;
use slot::{Slot, Work};
use std::collections::BTreeMap;
use std::time::Instant;

/// What to answer, and how.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The whole prompt, BOS included.
    pub(crate) ids: Vec<Token>,
    /// How tokens are chosen; already checked.
    pub(crate) sampling: Sampling,
    /// Tokens of the answer at most. The window cuts it too, with the same [`Reason::Length`].
    pub(crate) max_tokens: u32,
    /// The answer ends before the first of these; usually [`TURN_MARKERS`].
    pub(crate) stop: Vec<String>,
    /// How likely each token of the answer was, with this many of the likeliest beside it; `None`: not computed.
    pub(crate) logprobs: Option<u8>,
}

/// Names a request from [`Decoder::submit`] to its [`Event::Finished`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(u64);

/// What happened to a request in one step.
#[derive(Debug)]
pub(crate) enum Event {
    /// `done` of `total` prompt tokens are in the cache.
    Prefill {
        /// Prompt tokens in the cache.
        done: usize,
        /// Prompt tokens.
        total: usize,
    },
    /// The answer goes on with this: whole characters, never part of a stop string.
    Text(String),
    /// The answer is complete, here all of it, and its slot free.
    Finished(Answer),
}

/// What the work is tuned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// A person waits: a batch should take half a second at most.
    Talk,
    /// Many records: as many tokens a second as the machine gives.
    Bulk,
    /// The same request gives the same bytes, whatever was answered before or beside it: one sequence at a time, its
    /// prompt in slices that begin at the same positions always. The threads must be the same, too.
    Same,
}

/// The slots of one context, and the requests in them.
#[derive(Debug)]
pub(crate) struct Decoder<'m> {
    context: Context<'m>,
    vocab: Vocab<'m>,
    slots: Vec<Slot>,
    pool: Pool,
    order: Order,
    pace: schedule::Pace,
    tickets: u64,
    n_threads: usize,
}

impl<'m> Decoder<'m> {
    /// Makes the context of `model`, with the slots it was loaded for. A request to stop ends a step in its middle.
    pub(crate) fn new(model: &'m Model, order: Order, interrupt: &Interrupt) -> Result<Self, Failure> {
        let context = model.context(interrupt)?;
        Ok(Self {
            vocab: model.vocab(),
            slots: (0..context.n_seqs()).map(|_| Slot::default()).collect(),
            pool: Pool::new(context.n_cells()),
            order,
            pace: schedule::Pace::new(order, model.settings().n_gpu_layers > 0, context.n_batch()),
            tickets: 0,
            n_threads: model.n_threads() as usize,
            context,
        })
    }

    /// Window of one slot in tokens: prompt and answer together never exceed it.
    pub(crate) fn n_ctx(&self) -> usize {
        self.context.n_ctx()
    }

    /// Requests answered at once. More are taken in where prompts are read ahead.
    pub(crate) fn n_slots(&self) -> usize {
        self.context.n_slots()
    }

    /// Requests that can be taken in now.
    pub(crate) fn idle(&self) -> usize {
        self.slots.iter().filter(|slot| slot.is_idle()).count()
    }

    /// Takes a request in; needs an [`idle`](Self::idle) place. A prompt that leaves no token for an answer is refused with
    /// `CONTEXT_LENGTH`; nothing is ever cut off a prompt.
    pub(crate) fn submit(&mut self, request: Request) -> Result<Ticket, Failure> {
        let (n_prompt, n_ctx) = (request.ids.len(), self.n_ctx());
        if n_prompt == 0 || request.max_tokens == 0 {
            return Err(Failure::input(
                Code::Request,
                "an empty prompt or an empty answer was asked for",
                "ask for more",
            ));
        }
        if n_prompt >= n_ctx {
            let what = format!("the prompt has {n_prompt} tokens and the window holds {n_ctx}, answer included");
            return Err(Failure::input(Code::ContextLength, what, "shorten it, or give a larger -c"));
        }
        let slot = self
            .idle_slot(&request.ids)
            .ok_or_else(|| Failure::engine(Code::Defect, "a request without a free slot", "report this"))?;
        self.tickets += 1;
        let slot = &mut self.slots[slot];
        slot.last = self.tickets;
        slot.work = Work::Waiting(Job::new(Ticket(self.tickets), request, n_ctx));
        Ok(Ticket(self.tickets))
    }

    /// Computes one batch and says what came of it; nothing when all slots are idle, or when somebody asked to stop in its
    /// middle. After an error the decoder is not used again.
    pub(crate) fn step(&mut self) -> Result<Vec<(Ticket, Event)>, Failure> {
        self.admit()?;
        let shares = self.shares()?;
        if shares.is_empty() {
            return Ok(Vec::new());
        }
        self.context.clear_batch();
        let mut rows = BTreeMap::new();
        for (i, share) in &shares {
            let slot = &self.slots[*i];
            let pending = slot.pending();
            for (n, token) in pending.iter().take(*share).enumerate() {
                let last = n + 1 == pending.len();
                let row = self.context.push(*token, slot.cached.len() + n, *i, last)?;
                if last {
                    rows.insert(*i, row);
                }
            }
        }
        let began = Instant::now();
        if !self.context.decode()? {
            for (i, _) in shares {
                self.context.truncate(i, self.slots[i].cached.len())?;
            }
            return Ok(Vec::new());
        }
        self.pace.observe(shares.iter().map(|(_, share)| share).sum(), began.elapsed());

        let mut events = Vec::new();
        for (i, share) in shares {
            let cells = self.pool.take(share)?;
            events.extend(self.slots[i].advance(cells)?);
        }
        for (i, (token, logprob)) in self.choose(&rows)? {
            let slot = &mut self.slots[i];
            let Some(job) = slot.job_mut() else { continue };
            let (text, reason) = job.accept(token, logprob, &self.vocab);
            events.extend(slot.emit(text, reason, &self.vocab));
        }
        Ok(events)
    }

    /// The next token of each slot of `rows`, which says where in the batch its logits are.
    fn choose(&mut self, rows: &BTreeMap<usize, usize>) -> Result<Vec<(usize, Chosen)>, Failure> {
        let (mut slots, mut choices) = (Vec::new(), Vec::new());
        for (i, slot) in self.slots.iter_mut().enumerate() {
            if let (Some(row), Some(job)) = (rows.get(&i), slot.job_mut()) {
                slots.push(i);
                choices.push(Choice { job, logits: self.context.logits(*row)? });
            }
        }
        let chosen = choose(&mut choices, &self.vocab, self.n_threads)?;
        Ok(slots.into_iter().zip(chosen).collect())
    }

    /// Ends a request where it is, with [`Reason::Interrupted`]; its partial answer is in the events. A ticket that has
    /// finished already gives none.
    pub(crate) fn cancel(&mut self, ticket: Ticket) -> Vec<(Ticket, Event)> {
        let theirs = |slot: &&mut Slot| slot.job().is_some_and(|job| job.ticket == ticket);
        let Some(slot) = self.slots.iter_mut().find(theirs) else { return Vec::new() };
        let text = slot.job_mut().map(Job::flush).unwrap_or_default();
        slot.emit(text, Some(Reason::Interrupted), &self.vocab)
    }
}
