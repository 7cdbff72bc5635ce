//! The input and output of the decoder: requests, events, answers.

use super::draft::DraftCounts;
use super::logprobs::TokenLogprob;
use crate::engine::{Grammar, Sampling, Token};
use std::time::Duration;

/// A prompt to answer, with its parameters.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The whole prompt, BOS included.
    pub(crate) ids: Vec<Token>,
    /// How tokens are chosen; its ranges are already checked.
    pub(crate) sampling: Sampling,
    /// Added to the logits of these tokens, before penalties; the ids are already checked.
    pub(crate) logit_bias: Vec<(Token, f32)>,
    /// A grammar that the answer follows.
    pub(crate) grammar: Option<Grammar>,
    /// Maximum tokens to generate. The context size limits the answer too, with the same [`FinishReason::Length`].
    pub(crate) max_tokens: u32,
    /// Stop strings: the answer ends before the first match. Usually [`super::turn_markers`].
    pub(crate) stop: Vec<String>,
    /// Number of most likely tokens to return with the log probability of each token; `None`: no log probabilities.
    pub(crate) logprobs: Option<u8>,
}

impl Request {
    /// A greedy request without stop strings.
    pub(crate) fn greedy(ids: Vec<Token>, max_tokens: u32) -> Self {
        let (logit_bias, stop) = (Vec::new(), Vec::new());
        Self { ids, sampling: Sampling::greedy(), logit_bias, grammar: None, max_tokens, stop, logprobs: None }
    }
}

/// Identifies a request from [`super::Decoder::submit`] to its [`Event::Finished`]; a smaller id is older.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RequestId(pub(super) u64);

/// The goal that the decoder is optimized for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A user is waiting: a batch should take at most about 0.5 s.
    Interactive,
    /// Many records: as many tokens per second as possible.
    Throughput,
    /// The output of a request does not depend on other requests: one sequence at a time, and prefill chunks always
    /// begin at the same positions. The number of threads must be the same, too.
    Deterministic,
}

/// An event of a request in one step.
#[derive(Debug)]
pub(crate) enum Event {
    /// `done` of `total` prompt tokens are in the KV cache.
    Prefill {
        /// Prompt tokens in the KV cache.
        done: usize,
        /// Prompt tokens.
        total: usize,
    },
    /// Log probabilities of the next tokens of the answer, if the request asked for them; their text follows.
    Logprobs(Vec<TokenLogprob>),
    /// The next text of the answer: whole characters, never part of a stop string.
    Text(String),
    /// The whole answer; its slot is free again.
    Finished(Answer),
}

/// The reason why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FinishReason {
    /// The model ended it, or a stop string matched.
    Stop,
    /// `max_tokens` or the context size was reached.
    Length,
    /// [`super::Decoder::cancel`] was called.
    Interrupted,
}

/// A finished answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// The whole text, without the stop string.
    pub(crate) text: String,
    /// Generated ids whose text is exactly `text`; `None` if its end is not a token boundary (a stop string that began
    /// within a token, an incomplete character).
    pub(crate) ids: Option<Vec<Token>>,
    /// Log probabilities of the tokens of `text`, if the request asked for them. The last token can reach beyond the
    /// end of `text`.
    pub(crate) logprobs: Option<Vec<TokenLogprob>>,
    /// Why it ended.
    pub(crate) reason: FinishReason,
    /// Tokens and time.
    pub(crate) usage: Usage,
}

/// Tokens and time of an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Tokens of the prompt.
    pub(crate) prompt_tokens: usize,
    /// Prompt tokens that were already in the KV cache.
    pub(crate) cached_tokens: usize,
    /// Generated tokens, including the one that ended the answer.
    pub(crate) completion_tokens: usize,
    /// Time from the request to the first token.
    pub(crate) prefill: Duration,
    /// Time from the first token to the last.
    pub(crate) generation: Duration,
    /// Passes over the weights, and guessed tokens.
    pub(crate) drafts: DraftCounts,
}

impl Usage {
    /// Prompt tokens computed per second, up to the first token of the answer.
    pub(crate) fn prefill_speed(&self) -> f64 {
        (self.prompt_tokens - self.cached_tokens) as f64 / self.prefill.as_secs_f64().max(1e-9)
    }

    /// Tokens generated per second after the first; 0 if there was only one.
    pub(crate) fn generation_speed(&self) -> f64 {
        self.completion_tokens.saturating_sub(1) as f64 / self.generation.as_secs_f64().max(1e-9)
    }
}
