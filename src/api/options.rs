//! The parameters of a request. `params.rs` parses them.

use crate::engine::Token;

/// Parameters that a request sets. The flags set the others.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RequestOptions {
    /// Completions for each prompt.
    pub(crate) n: Option<u32>,
    /// Maximum tokens to generate.
    pub(crate) max_tokens: Option<u32>,
    /// Sampling temperature.
    pub(crate) temperature: Option<f32>,
    /// Nucleus sampling.
    pub(crate) top_p: Option<f32>,
    /// Top-k (not in OpenAI's API).
    pub(crate) top_k: Option<u32>,
    /// Min-p (not in OpenAI's API).
    pub(crate) min_p: Option<f32>,
    /// Repetition penalty over the last tokens (llama.cpp's).
    pub(crate) repeat_penalty: Option<f32>,
    /// Tokens that the repetition penalty applies to (llama.cpp's).
    pub(crate) repeat_last_n: Option<u32>,
    /// Repetition penalty over the whole prompt and answer (vLLM's).
    pub(crate) repetition_penalty: Option<f32>,
    /// Presence penalty.
    pub(crate) presence_penalty: Option<f32>,
    /// Frequency penalty.
    pub(crate) frequency_penalty: Option<f32>,
    /// Added to the logits of these tokens.
    pub(crate) logit_bias: Vec<(Token, f32)>,
    /// The grammar (GBNF) that the answer follows; checked.
    pub(crate) grammar: Option<String>,
    /// How the answer may call functions; `None`: not at all. `grammar` has the calls.
    pub(crate) calls: Option<Calls>,
    /// Random seed.
    pub(crate) seed: Seed,
    /// Stop strings.
    pub(crate) stop: Vec<String>,
    /// Whether to prepend BOS to a text; `None`: yes.
    pub(crate) add_bos: Option<bool>,
    /// Return log probabilities, with this many of the most likely tokens at each position.
    pub(crate) logprobs: Option<u8>,
}

/// How an answer may call functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Calls {
    /// There may be text before the calls, or text only.
    AfterText,
    /// It is calls, or JSON.
    Alone,
}

/// Random seed of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Seed {
    /// Not given: `batch` derives it from --seed and the record's id, `serve` draws one.
    #[default]
    Own,
    /// --seed.
    Shared,
    /// Set by the request.
    Given(u32),
}
