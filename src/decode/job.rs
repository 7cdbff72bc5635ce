//! One request while it is being answered, and the answer that comes of it. Admission, prefix sharing and
//! preemption are in `admit.rs`, the rows of a batch in `schedule.rs`.

use super::logprobs::TokenLogprob;
use super::stop::Stop;
use super::utf8::Utf8;
use super::{Request, Ticket};
use crate::engine::{Sampler, Token, Vocab};
use std::time::{Duration, Instant};

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The model ended it, or a stop string came.
    Stop,
    /// `max_tokens` or the window was reached.
    Length,
    /// [`super::Decoder::cancel`].
    Interrupted,
}

/// A finished answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// The whole text, without the stop string.
    pub(crate) text: String,
    /// The tokens that spell `text`, as they were generated; `None` when none do exactly (a stop string that began
    /// within a token, a character that never came whole).
    pub(crate) ids: Option<Vec<Token>>,
    /// How likely each token was that `text` begins or goes on with, if the request asked; the last one may reach beyond
    /// the end of `text`.
    pub(crate) logprobs: Option<Vec<TokenLogprob>>,
    /// Why it ended.
    pub(crate) reason: Reason,
    /// What it took.
    pub(crate) usage: Usage,
}

/// Tokens and time that an answer took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Tokens of the prompt.
    pub(crate) prompt_tokens: usize,
    /// Of these, tokens that were in the cache already.
    pub(crate) cached_tokens: usize,
    /// Tokens generated, the one that ends the answer included.
    pub(crate) completion_tokens: usize,
    /// From the request to the first token.
    pub(crate) prefill: Duration,
    /// From the first token to the last.
    pub(crate) generation: Duration,
}

impl Usage {
    /// Prompt tokens computed in a second; the first token of the answer comes with them.
    pub(crate) fn prefill_speed(&self) -> f64 {
        (self.prompt_tokens - self.cached_tokens) as f64 / self.prefill.as_secs_f64().max(1e-9)
    }

    /// Tokens generated in a second after the first; 0 when there was only one.
    pub(crate) fn generation_speed(&self) -> f64 {
        self.completion_tokens.saturating_sub(1) as f64 / self.generation.as_secs_f64().max(1e-9)
    }
}

/// A request in a slot.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) ticket: Ticket,
    /// The prompt and what was generated so far.
    pub(super) ids: Vec<Token>,
    pub(super) n_prompt: usize,
    pub(super) sampler: Sampler,
    /// The text given out so far.
    pub(super) text: String,
    /// [`Request::logprobs`].
    pub(super) n_top: Option<u8>,
    /// One for each token generated, if asked for, with where its text begins in the text of all of them.
    logprobs: Vec<(usize, TokenLogprob)>,
    /// Bytes of the characters that the tokens have completed so far.
    spoken: usize,
    n_cached: usize,
    n_generated: usize,
    limit: usize,
    utf8: Utf8,
    stop: Stop,
    began: Instant,
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Job {
    /// `n_ctx`: window of the slot in tokens.
    pub(super) fn new(ticket: Ticket, request: Request, n_ctx: usize) -> Self {
        let n_prompt = request.ids.len();
        Self {
            ticket,
            sampler: Sampler::new(&request.sampling, &request.ids),
            ids: request.ids,
            n_prompt,
            text: String::new(),
            n_top: request.logprobs,
            logprobs: Vec::new(),
            spoken: 0,
            n_cached: 0,
            n_generated: 0,
            limit: (request.max_tokens as usize).min(n_ctx - n_prompt),
            utf8: Utf8::default(),
            stop: Stop::new(request.stop),
            began: Instant::now(),
            first: None,
            last: None,
        }
    }

    /// Notes how many prompt tokens were cached at admission.
    pub(super) fn begins_with(&mut self, n_cached: usize) {
        if self.n_generated == 0 {
            self.n_cached = n_cached;
        }
    }

    /// Takes the next token in; gives the text that is certain now, and why the answer ends if it does.
    pub(super) fn accept(
        &mut self,
        token: Token,
        logprob: Option<TokenLogprob>,
        vocab: &Vocab<'_>,
    ) -> (String, Option<Reason>) {
        let now = Instant::now();
        self.first.get_or_insert(now);
        self.last = Some(now);
        self.n_generated += 1;
        if vocab.is_end(token) {
            return (self.flush(), Some(Reason::Stop));
        }
        self.ids.push(token);
        self.logprobs.extend(logprob.map(|logprob| (self.spoken, logprob)));
        let spoken = self.utf8.push(&vocab.piece(token));
        self.spoken += spoken.len();
        let (mut text, stopped) = self.stop.push(&spoken);
        if stopped {
            return (text, Some(Reason::Stop));
        }
        if self.n_generated < self.limit {
            return (text, None);
        }
        text.push_str(&self.flush());
        (text, Some(Reason::Length))
    }

    /// What was held back, because it could have become a character or a stop string.
    pub(super) fn flush(&mut self) -> String {
        let rest = self.utf8.finish();
        let (mut text, stopped) = self.stop.push(&rest);
        if !stopped {
            text.push_str(&self.stop.finish());
        }
        text
    }

    /// The answer, with the tokens that spell it.
    pub(super) fn finish(mut self, reason: Reason, vocab: &Vocab<'_>) -> Answer {
        let mut ids = self.ids.split_off(self.n_prompt);
        let spelled = spelling(ids.iter().map(|token| vocab.piece(*token)), self.text.as_bytes());
        let within = self.logprobs.into_iter().take_while(|(from, _)| *from < self.text.len());
        let logprobs = self.n_top.map(|_| within.map(|(_, logprob)| logprob).collect());
        let first = self.first.unwrap_or_else(Instant::now);
        let usage = Usage {
            prompt_tokens: self.n_prompt,
            cached_tokens: self.n_cached,
            completion_tokens: self.n_generated,
            prefill: first - self.began,
            generation: self.last.map_or(Duration::ZERO, |last| last - first),
        };
        let ids = spelled.map(|n| {
            ids.truncate(n);
            ids
        });
        Answer { text: self.text, ids, logprobs, reason, usage }
    }
}

/// How many of the `pieces` make up `text` exactly, if some do.
fn spelling(pieces: impl Iterator<Item = Vec<u8>>, text: &[u8]) -> Option<usize> {
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
    use super::spelling;

    #[test]
    fn tokens_are_kept_only_when_they_spell_the_text() {
        let pieces = |list: &[&str]| list.iter().map(|piece| piece.as_bytes().to_vec()).collect::<Vec<_>>().into_iter();
        assert_eq!(spelling(pieces(&["Hi", " you", "<|", "user|>"]), b"Hi you"), Some(2));
        assert_eq!(spelling(pieces(&["Hi", ".\n<|", "user|>"]), b"Hi."), None);
        assert_eq!(spelling(pieces(&["Hi"]), b"Hi"), Some(1));
        assert_eq!(spelling(pieces(&["Hi"]), b""), Some(0));
        assert_eq!(spelling(pieces(&[]), b"\xef\xbf\xbd"), None);
    }
}
