//! A request while it is answered: its tokens, its sampler and the text so far. `admission.rs` (admission, prefix
//! sharing, preemption) and `token_budget.rs` (rows of a batch) decide when it is computed.

use super::draft::{DraftCounts, FamilyId, PairIndex, Subject};
use super::logprobs::TokenLogprob;
use super::request::{Answer, FinishReason, Request, RequestId, Usage};
use super::stop_strings::StopStrings;
use super::utf8::Utf8;
use crate::engine::{Sampler, Token, Vocab};
use std::time::{Duration, Instant};

/// A request in a slot.
#[derive(Debug)]
pub(super) struct ActiveRequest {
    pub(super) id: RequestId,
    /// The prompt and the tokens generated so far.
    pub(super) ids: Vec<Token>,
    pub(super) n_prompt: usize,
    pub(super) sampler: Sampler,
    /// The text emitted so far.
    pub(super) text: String,
    /// [`Request::logprobs`].
    pub(super) n_top: Option<u8>,
    /// One for each generated token, if requested, with the byte offset of its text in the whole text.
    logprobs: Vec<(usize, TokenLogprob)>,
    /// How many of these were returned by [`Self::new_logprobs`].
    n_logprobs_sent: usize,
    /// Bytes of all complete characters so far.
    text_len: usize,
    n_cached: usize,
    n_generated: usize,
    /// Maximum tokens to generate.
    limit: usize,
    utf8: Utf8,
    stop: StopStrings,
    /// The index of `ids`, for guesses; as far as they were needed.
    index: PairIndex,
    /// The family of the prompt, for guesses.
    pub(super) family: FamilyId,
    pub(super) drafts: DraftCounts,
    /// Tokens that replace the chosen ones, in a measurement.
    pub(super) given: Vec<Token>,
    began: Instant,
    first: Option<Instant>,
    last: Option<Instant>,
}

impl ActiveRequest {
    /// `n_ctx`: context size of the sequence, in tokens.
    pub(super) fn new(id: RequestId, request: Request, n_ctx: usize) -> Self {
        let n_prompt = request.ids.len();
        Self {
            id,
            sampler: Sampler::new(&request.sampling, &request.ids)
                .with_bias(request.logit_bias)
                .with_grammar(request.grammar),
            index: PairIndex::default(),
            family: FamilyId::of(&request.ids),
            drafts: DraftCounts::default(),
            given: Vec::new(),
            ids: request.ids,
            n_prompt,
            text: String::new(),
            n_top: request.logprobs,
            logprobs: Vec::new(),
            n_logprobs_sent: 0,
            text_len: 0,
            n_cached: 0,
            n_generated: 0,
            limit: (request.max_tokens as usize).min(n_ctx - n_prompt),
            utf8: Utf8::default(),
            stop: StopStrings::new(request.stop),
            began: Instant::now(),
            first: None,
            last: None,
        }
    }

    /// Records how many prompt tokens were cached at admission.
    pub(super) fn set_cached(&mut self, n_cached: usize) {
        if self.n_generated == 0 {
            self.n_cached = n_cached;
        }
    }

    /// Indexes the tokens that are new since the last call, for [`Self::subject`].
    pub(super) fn update_index(&mut self) {
        self.index.extend(&self.ids);
    }

    /// Returns what guesses of the next tokens are made from. The answer needs at least one token after the guessed
    /// ones, so the maximum length of an answer is never exceeded.
    /// `slot`: its slot; `proposes`: whether a second model may guess.
    pub(super) fn subject(&self, slot: usize, proposes: bool) -> Subject<'_> {
        let n_max = self.limit.saturating_sub(self.n_generated + 1);
        Subject {
            slot,
            ids: &self.ids,
            n_prompt: self.n_prompt,
            index: &self.index,
            family: self.family,
            n_max,
            proposer: proposes.then(|| self.sampler.proposer()),
        }
    }

    /// Returns the token that replaces the `i`-th chosen one from here, in a measurement.
    pub(super) fn given_token(&self, i: usize) -> Option<Token> {
        self.given.get(self.n_generated + i).copied()
    }

    /// Appends a token. Returns the text that can be emitted, and the finish reason if the answer ends.
    pub(super) fn accept(
        &mut self,
        token: Token,
        logprob: Option<TokenLogprob>,
        vocab: &Vocab<'_>,
    ) -> (String, Option<FinishReason>) {
        let now = Instant::now();
        self.first.get_or_insert(now);
        self.last = Some(now);
        self.n_generated += 1;
        if vocab.is_end(token) {
            return (self.flush(), Some(FinishReason::Stop));
        }
        self.ids.push(token);
        self.logprobs.extend(logprob.map(|logprob| (self.text_len, logprob)));
        let text = self.utf8.push(&vocab.piece(token));
        self.text_len += text.len();
        let (mut text, stopped) = self.stop.push(&text);
        if stopped {
            return (text, Some(FinishReason::Stop));
        }
        if self.n_generated < self.limit {
            return (text, None);
        }
        text.push_str(&self.flush());
        (text, Some(FinishReason::Length))
    }

    /// Returns the log probabilities of tokens whose text is emitted and that were not returned before.
    pub(super) fn new_logprobs(&mut self) -> Vec<TokenLogprob> {
        let rest = self.logprobs.iter().skip(self.n_logprobs_sent);
        let new = rest.take_while(|(from, _)| *from < self.text.len()).map(|(_, logprob)| logprob.clone());
        let new: Vec<TokenLogprob> = new.collect();
        self.n_logprobs_sent += new.len();
        new
    }

    /// Returns the text that was held back because it could have become a character or a stop string.
    pub(super) fn flush(&mut self) -> String {
        let rest = self.utf8.finish();
        let (mut text, stopped) = self.stop.push(&rest);
        if !stopped {
            text.push_str(&self.stop.finish());
        }
        text
    }

    /// Returns the answer.
    pub(super) fn finish(mut self, reason: FinishReason, vocab: &Vocab<'_>) -> Answer {
        let mut ids = self.ids.split_off(self.n_prompt);
        let n_ids = token_boundary(ids.iter().map(|token| vocab.piece(*token)), self.text.as_bytes());
        let within = self.logprobs.into_iter().take_while(|(from, _)| *from < self.text.len());
        let logprobs = self.n_top.map(|_| within.map(|(_, logprob)| logprob).collect());
        let first = self.first.unwrap_or_else(Instant::now);
        let usage = Usage {
            prompt_tokens: self.n_prompt,
            cached_tokens: self.n_cached,
            completion_tokens: self.n_generated,
            prefill: first - self.began,
            generation: self.last.map_or(Duration::ZERO, |last| last - first),
            drafts: self.drafts,
        };
        let ids = n_ids.map(|n| {
            ids.truncate(n);
            ids
        });
        Answer { text: self.text, ids, logprobs, reason, usage }
    }
}

/// Returns how many `pieces` together equal `text`; `None` if `text` ends within a piece.
fn token_boundary(pieces: impl Iterator<Item = Vec<u8>>, text: &[u8]) -> Option<usize> {
    let (mut rest, mut n) = (text, 0);
    for piece in pieces {
        if rest.is_empty() {
            break;
        }
        rest = rest.strip_prefix(piece.as_slice())?;
        n += 1;
    }
    rest.is_empty().then_some(n)
}

#[cfg(test)]
mod tests {
    use super::token_boundary;

    #[test]
    fn ids_are_returned_only_if_they_end_at_the_end_of_the_text() {
        let pieces = |list: &[&str]| list.iter().map(|piece| piece.as_bytes().to_vec()).collect::<Vec<_>>().into_iter();
        assert_eq!(token_boundary(pieces(&["Hi", " you", "<|", "user|>"]), b"Hi you"), Some(2));
        assert_eq!(token_boundary(pieces(&["Hi", ".\n<|", "user|>"]), b"Hi."), None);
        assert_eq!(token_boundary(pieces(&["Hi"]), b"Hi"), Some(1));
        assert_eq!(token_boundary(pieces(&["Hi"]), b""), Some(0));
        assert_eq!(token_boundary(pieces(&[]), b"\xef\xbf\xbd"), None);
    }
}
