//! A slot: one sequence of the KV cache, the tokens in it, and the request that it computes.

use super::active_request::ActiveRequest;
use super::kv_cells::defect;
use super::request::{Event, FinishReason, RequestId};
use super::token_budget::MIN_CHUNK;
use crate::engine::{Token, Vocab};
use crate::error::Failure;

/// The state of a slot.
#[derive(Debug, Default)]
pub(super) enum SlotState {
    /// No request. Its tokens stay in the cache for a request with the same prefix.
    #[default]
    Idle,
    /// A request that waits for free cells, or for a prefix that another slot computes.
    Waiting(ActiveRequest),
    /// A request that is computed.
    Running(ActiveRequest),
}

/// A sequence of the KV cache.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// The tokens whose keys and values are in the cache, from position 0.
    pub(super) cached: Vec<Token>,
    /// Their cells, one for each token, as [`super::kv_cells::KvCells`] counts them.
    pub(super) cells: Vec<u32>,
    /// Length of the cached prefix that was computed in aligned, full-size chunks, in tokens. Deterministic mode can
    /// reuse only this part.
    pub(super) chunked_len: usize,
    pub(super) state: SlotState,
    /// Number of the last request; smaller is older.
    pub(super) last_request: u64,
}

impl Slot {
    /// Its request, waiting or running.
    pub(super) fn request(&self) -> Option<&ActiveRequest> {
        match &self.state {
            SlotState::Idle => None,
            SlotState::Waiting(request) | SlotState::Running(request) => Some(request),
        }
    }

    /// Like [`Self::request`], but mutable.
    pub(super) fn request_mut(&mut self) -> Option<&mut ActiveRequest> {
        match &mut self.state {
            SlotState::Idle => None,
            SlotState::Waiting(request) | SlotState::Running(request) => Some(request),
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self.state, SlotState::Idle)
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.state, SlotState::Waiting(_))
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.state, SlotState::Running(_))
    }

    /// Starts the waiting request; `n_cached` of its tokens are cached.
    pub(super) fn start(&mut self, n_cached: usize) {
        if let SlotState::Waiting(mut request) = std::mem::take(&mut self.state) {
            request.set_cached(n_cached);
            self.state = SlotState::Running(request);
        }
    }

    /// Preempts the running request: it waits again. Its tokens stay in the cache until the cells are needed.
    pub(super) fn preempt(&mut self) {
        if let SlotState::Running(request) = std::mem::take(&mut self.state) {
            self.state = SlotState::Waiting(request);
        }
    }

    /// Tokens of a running request that are not in the cache yet.
    pub(super) fn pending(&self) -> &[Token] {
        match &self.state {
            SlotState::Running(request) => request.ids.get(self.cached.len()..).unwrap_or_default(),
            SlotState::Idle | SlotState::Waiting(_) => &[],
        }
    }

    /// Whether the prefill is done and the answer has begun.
    pub(super) fn is_generating(&self) -> bool {
        let begun = |request: &ActiveRequest| {
            self.cached.len() >= request.n_prompt && self.cached.len() + 1 == request.ids.len()
        };
        matches!(&self.state, SlotState::Running(request) if begun(request))
    }

    /// Records that the next pending tokens are now in the cache, in these cells.
    pub(super) fn advance(&mut self, cells: Vec<u32>) -> Result<Option<(RequestId, Event)>, Failure> {
        let (from, to) = (self.cached.len(), self.cached.len() + cells.len());
        let SlotState::Running(request) = &self.state else {
            return Err(defect("cells were computed for a slot without a running request"));
        };
        let computed =
            request.ids.get(from..to).ok_or_else(|| defect("more cells were computed than the request has tokens"))?;
        self.cached.extend_from_slice(computed);
        self.cells.extend(cells);
        if from == self.chunked_len && to == from + MIN_CHUNK && to <= request.n_prompt {
            self.chunked_len = to;
        }
        Ok((from < request.n_prompt).then_some((request.id, Event::Prefill { done: to, total: request.n_prompt })))
    }

    /// Records that the guessed `tokens`, which the request has accepted, are in the cache, in these cells.
    pub(super) fn keep_guessed(&mut self, tokens: &[Token], cells: Vec<u32>) {
        self.cached.extend_from_slice(tokens);
        self.cells.extend(cells);
    }

    /// Returns the events for new text and, if there is a `reason`, for the end of the request.
    pub(super) fn emit(
        &mut self,
        text: String,
        reason: Option<FinishReason>,
        vocab: &Vocab<'_>,
    ) -> Vec<(RequestId, Event)> {
        let mut events = Vec::new();
        let Some(request) = self.request_mut() else { return events };
        let id = request.id;
        if !text.is_empty() {
            request.text.push_str(&text);
            let logprobs = request.new_logprobs();
            if !logprobs.is_empty() {
                events.push((id, Event::Logprobs(logprobs)));
            }
            events.push((id, Event::Text(text)));
        }
        if let Some(reason) = reason
            && let SlotState::Waiting(request) | SlotState::Running(request) = std::mem::take(&mut self.state)
        {
            events.push((id, Event::Finished(request.finish(reason, vocab))));
        }
        events
    }
}
