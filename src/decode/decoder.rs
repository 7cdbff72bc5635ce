//! The decoder: one context with its slots. Each step decodes one batch and returns events. `admission.rs` decides
//! which request is computed next.

use super::active_request::ActiveRequest;
use super::admission::Scheduler;
use super::choose::{Choice, Chosen, choose};
use super::draft::{Drafter, Drafts, Guess};
use super::request::{Event, FinishReason, Mode, Request, RequestId};
use super::slot::{Slot, SlotState};
use crate::engine::{Context, Model, Vocab};
use crate::error::{Code, Failure};
use crate::interrupt::Interrupt;
use std::collections::BTreeMap;
use std::time::Instant;

/// Guessed tokens, by slot.
type Guesses = BTreeMap<usize, Guess>;

/// The slots of one context, and the requests in them.
#[derive(Debug)]
pub(crate) struct Decoder<'m> {
    pub(super) context: Context<'m>,
    pub(super) scheduler: Scheduler,
    vocab: Vocab<'m>,
    drafter: Drafter<'m>,
    /// Number of requests so far, which is also the id of the last one.
    pub(super) n_requests: u64,
    n_threads: usize,
}

impl<'m> Decoder<'m> {
    /// Creates the context of `model`, with the slots that it was loaded for. `interrupt` also stops a step that is
    /// being computed.
    pub(crate) fn new(
        model: &'m Model,
        mode: Mode,
        drafts: Drafts<'m>,
        interrupt: &Interrupt,
    ) -> Result<Self, Failure> {
        let context = model.context(interrupt)?;
        let drafts = if mode == Mode::Deterministic { Drafts::off() } else { drafts };
        Ok(Self {
            vocab: model.vocab(),
            drafter: Drafter::new(drafts, model, mode == Mode::Throughput, interrupt)?,
            scheduler: Scheduler::new(&context, mode, model.n_gpu_layers() > 0),
            n_requests: 0,
            n_threads: model.n_threads() as usize,
            context,
        })
    }

    /// Context size of one sequence in tokens: prompt and answer together never exceed it.
    pub(crate) fn n_ctx(&self) -> usize {
        self.context.n_ctx()
    }

    /// Returns the number of requests that generate at the same time. More can be submitted if prompts are prefilled
    /// ahead.
    pub(crate) fn n_slots(&self) -> usize {
        self.context.n_slots()
    }

    /// Returns the number of requests that can be submitted now.
    pub(crate) fn idle(&self) -> usize {
        self.scheduler.slots.iter().filter(|slot| slot.is_idle()).count()
    }

    /// Submits a request; needs an [`idle`](Self::idle) slot. A prompt is never truncated: if it leaves no token for an
    /// answer, this is an error (`CONTEXT_LENGTH`).
    pub(crate) fn submit(&mut self, request: Request) -> Result<RequestId, Failure> {
        let (n_prompt, n_ctx) = (request.ids.len(), self.n_ctx());
        if n_prompt == 0 || request.max_tokens == 0 {
            let what = "the request has an empty prompt, or asks for an empty answer";
            return Err(Failure::input(Code::Request, what, "ask for more"));
        }
        if n_prompt >= n_ctx {
            let what = format!("the prompt has {n_prompt} tokens; the context is {n_ctx} tokens, including the answer");
            return Err(Failure::input(Code::ContextLength, what, "shorten the prompt, or give a larger -c"));
        }
        let slot = self.scheduler.idle_slot(&request.ids).ok_or_else(|| {
            Failure::engine(Code::Defect, "a request was submitted without a free slot", "report this")
        })?;
        self.n_requests += 1;
        let slot = &mut self.scheduler.slots[slot];
        slot.last_request = self.n_requests;
        let id = RequestId(self.n_requests);
        let mut request = ActiveRequest::new(id, request, n_ctx);
        request.given = self.drafter.given_answer().to_vec();
        slot.state = SlotState::Waiting(request);
        Ok(id)
    }

    /// Decodes one batch and returns the events; none if all slots are idle, or if the step was interrupted. After an
    /// error the decoder must not be used again.
    pub(crate) fn step(&mut self) -> Result<Vec<(RequestId, Event)>, Failure> {
        self.scheduler.admit(&mut self.context)?;
        let budgets = self.scheduler.next_batch(&mut self.context)?;
        if budgets.is_empty() {
            return Ok(Vec::new());
        }
        let guesses = self.guess(&budgets)?;
        let rows = self.fill_batch(&budgets, &guesses)?;
        let began = Instant::now();
        if !self.context.decode()? {
            for (i, _) in budgets {
                self.context.truncate(i, self.scheduler.slots[i].cached.len())?;
            }
            return Ok(Vec::new());
        }
        self.scheduler.observe(budgets.iter().map(|(_, n)| n).sum(), began.elapsed());

        let mut events = Vec::new();
        // Only answers, and no prompts: the time of such a pass depends on its rows.
        let only_answers = self.only_answers(&budgets);
        for (i, n) in &budgets {
            events.extend(self.scheduler.advance(*i, *n)?);
        }
        let mut n_right = 0;
        for (i, chosen) in self.choose(&rows, &guesses)? {
            let guess = guesses.get(&i).cloned().unwrap_or_default();
            n_right += self.accept(i, chosen, &guess, &mut events)?;
        }
        if only_answers {
            let n_guessed = guesses.values().map(|guess| guess.tokens.len()).sum();
            self.drafter.observe(budgets.len(), n_guessed, n_right, began.elapsed());
        }
        Ok(events)
    }

    /// Whether the pass computes one token for each of several answers, and no prompt.
    fn only_answers(&self, budgets: &[(usize, usize)]) -> bool {
        budgets.iter().all(|(i, _)| self.scheduler.slots[*i].is_generating())
    }

    /// Guesses the next tokens of the answers in this pass; of none if the pass also computes prompts.
    fn guess(&mut self, budgets: &[(usize, usize)]) -> Result<Guesses, Failure> {
        if !self.drafter.is_possible(budgets.len()) || !self.only_answers(budgets) {
            return Ok(Guesses::new());
        }
        for (i, _) in budgets {
            self.scheduler.slots[*i].request_mut().into_iter().for_each(ActiveRequest::update_index);
        }
        let proposes = self.drafter.needs_proposer();
        let of_slot = |(i, _): &(usize, usize)| Some(self.scheduler.slots[*i].request()?.subject(*i, proposes));
        let mut subjects: Vec<_> = budgets.iter().filter_map(of_slot).collect();
        let room = self.context.n_batch() - budgets.len();
        let guesses = self.drafter.guess(&mut subjects, room)?;
        let slots = subjects.iter().map(|subject| subject.slot);
        let guesses: Guesses = slots.zip(guesses).filter(|(_, guess)| !guess.tokens.is_empty()).collect();
        let n_cells = budgets.len() + guesses.values().map(|guess| guess.tokens.len()).sum::<usize>();
        let enough = self.scheduler.free_idle(&mut self.context, n_cells)?;
        Ok(if enough { guesses } else { Guesses::new() })
    }

    /// Puts the next tokens of each slot into the batch, followed by the guessed ones. Returns, for each slot whose last
    /// token is among them, the row of its logits; those of the guessed tokens are in the rows after it.
    fn fill_batch(&mut self, budgets: &[(usize, usize)], guesses: &Guesses) -> Result<BTreeMap<usize, usize>, Failure> {
        self.context.clear_batch();
        let mut rows = BTreeMap::new();
        for (i, n_tokens) in budgets {
            let slot = &self.scheduler.slots[*i];
            let pending = slot.pending();
            for (n, token) in pending.iter().take(*n_tokens).enumerate() {
                let last = n + 1 == pending.len();
                let row = self.context.push(*token, slot.cached.len() + n, *i, last)?;
                if last {
                    rows.insert(*i, row);
                }
            }
            for (n, token) in guesses.get(i).into_iter().flat_map(|guess| &guess.tokens).enumerate() {
                self.context.push(*token, slot.cached.len() + n_tokens + n, *i, true)?;
            }
        }
        Ok(rows)
    }

    /// Chooses the next tokens of each slot in `rows`, which maps a slot to the first row of its logits.
    fn choose(
        &mut self,
        rows: &BTreeMap<usize, usize>,
        guesses: &Guesses,
    ) -> Result<Vec<(usize, Vec<Chosen>)>, Failure> {
        let none = Guess::default();
        let (mut slots, mut choices) = (Vec::new(), Vec::new());
        for (i, slot) in self.scheduler.slots.iter_mut().enumerate() {
            if let (Some(row), Some(request)) = (rows.get(&i), slot.request_mut()) {
                let guess = guesses.get(&i).unwrap_or(&none);
                let logits = (*row..=row + guess.tokens.len()).map(|row| self.context.logits(row));
                slots.push(i);
                choices.push(Choice { request, logits: logits.collect::<Result<_, _>>()?, guess });
            }
        }
        let chosen = choose(&mut choices, &self.vocab, self.n_threads)?;
        Ok(slots.into_iter().zip(chosen).collect())
    }

    /// Appends the `chosen` tokens to the answer of slot `i`, up to its end. Returns how many tokens of `guess` were
    /// accepted.
    fn accept(
        &mut self,
        i: usize,
        chosen: Vec<Chosen>,
        guess: &Guess,
        events: &mut Vec<(RequestId, Event)>,
    ) -> Result<usize, Failure> {
        let slot = &mut self.scheduler.slots[i];
        let Some(request) = slot.request_mut() else { return Ok(0) };
        let family = request.family;
        request.drafts.passes += 1;
        request.drafts.drafted += guess.tokens.len() as u64;
        let (mut n_right, mut ended, mut right) = (0, false, false);
        for (token, logprob) in chosen {
            let Some(request) = slot.request_mut() else { break };
            right = guess.tokens.get(n_right) == Some(&token);
            n_right += usize::from(right);
            request.drafts.tokens += 1;
            request.drafts.accepted += u64::from(right);
            let (text, reason) = request.accept(token, logprob, &self.vocab);
            ended = reason.is_some();
            events.extend(slot.emit(text, reason, &self.vocab));
            if ended {
                break;
            }
        }
        if let (true, Some((_, Event::Finished(answer)))) = (ended, events.last()) {
            self.drafter.learn(family, answer.ids.as_deref().unwrap_or_default());
        }
        self.drafter.judge(guess, n_right, ended && right);
        if !guess.tokens.is_empty() {
            // As without guesses, the KV cache does not have the last token of a finished answer.
            let kept = n_right - usize::from(ended && right);
            self.scheduler.keep_guessed(&mut self.context, i, &guess.tokens[..kept])?;
        }
        Ok(n_right)
    }

    /// Ends a request with [`FinishReason::Interrupted`]; its partial answer is in the events. Returns no events if the
    /// request has already finished.
    pub(crate) fn cancel(&mut self, id: RequestId) -> Vec<(RequestId, Event)> {
        let has_it = |slot: &&mut Slot| slot.request().is_some_and(|request| request.id == id);
        let Some(slot) = self.scheduler.slots.iter_mut().find(has_it) else { return Vec::new() };
        let text = slot.request_mut().map(ActiveRequest::flush).unwrap_or_default();
        slot.emit(text, Some(FinishReason::Interrupted), &self.vocab)
    }
}
