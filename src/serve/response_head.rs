//! What all parts of a response to `/v1/chat/completions` and `/v1/completions` have in common, and its usage.

use crate::decode::Answer;
use serde_json::{Value, json};

/// What all responses and all parts of a stream of one request have in common.
#[derive(Clone, Debug)]
pub(super) struct ResponseHead {
    pub(super) id: String,
    pub(super) created: u64,
    pub(super) model: String,
    pub(super) fingerprint: String,
}

/// Tokens of a whole response.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TotalUsage {
    prompt: usize,
    cached: usize,
    completion: usize,
}

impl TotalUsage {
    /// Adds an answer that is `copies` times in the response. A prompt counts once for its `n` answers; `index` is that of
    /// the answer.
    pub(super) fn add(&mut self, answer: &Answer, index: usize, n: usize, copies: usize) {
        if index.is_multiple_of(n) {
            self.prompt += answer.usage.prompt_tokens;
            self.cached += answer.usage.cached_tokens;
        }
        self.completion += answer.usage.completion_tokens * copies;
    }

    /// Returns `usage` of OpenAI's API.
    pub(super) fn json(self) -> Value {
        json!({
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        })
    }
}
