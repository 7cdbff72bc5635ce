//! Format-independent representation of a record and its result. `formats/` reads and writes them.

use crate::decode::Answer;
use crate::engine::Token;
use crate::prompt::Message;
use serde_json::{Map, Value};

/// A record of the input. Each prompt is answered `n` times; each answer continues with the follow-up turns.
#[derive(Debug, PartialEq)]
pub(crate) struct Record {
    /// The id in the input, which is unique there; `None` in a format without ids.
    pub(crate) id: Option<String>,
    /// The requested model, if the format has such a field.
    pub(crate) model: Option<String>,
    /// The prompts; at least one.
    pub(crate) prompts: Vec<PromptInput>,
    /// Follow-up user messages: after the first answer, and after the next ones.
    pub(crate) turns: Vec<String>,
    /// Parameters.
    pub(crate) options: RequestOptions,
    /// Input fields that are copied to the output; the id is the first.
    pub(crate) fields: Map<String, Value>,
}

/// A prompt.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PromptInput {
    /// A conversation.
    Chat(Vec<Message>),
    /// A rendered text to complete; special tokens in it are parsed.
    Text(String),
    /// Token ids to complete.
    Ids(Vec<Token>),
}

impl PromptInput {
    /// Bytes of its text; 0 for ids.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Chat(messages) => messages.iter().map(|message| message.content.len()).sum(),
            Self::Text(text) => text.len(),
            Self::Ids(_) => 0,
        }
    }
}

/// Parameters that the record sets. The flags set the others.
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
    /// Repetition penalty over the whole prompt and answer (vLLM's).
    pub(crate) repetition_penalty: Option<f32>,
    /// Presence penalty.
    pub(crate) presence_penalty: Option<f32>,
    /// Frequency penalty.
    pub(crate) frequency_penalty: Option<f32>,
    /// Random seed.
    pub(crate) seed: Seed,
    /// Stop strings.
    pub(crate) stop: Vec<String>,
    /// Whether to prepend BOS to a text; `None`: yes.
    pub(crate) add_bos: Option<bool>,
    /// Return log probabilities, with this many of the most likely tokens at each position.
    pub(crate) logprobs: Option<u8>,
}

/// Random seed of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Seed {
    /// Derived from --seed and the record's id.
    #[default]
    Own,
    /// --seed.
    Shared,
    /// Set by the record.
    Given(u32),
}

/// The reason why a record failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordError {
    /// The record's id, if it could be read.
    pub(crate) id: Option<Value>,
    /// Stable code, lower case.
    pub(crate) code: &'static str,
    /// Message for the user.
    pub(crate) message: String,
}

/// Code and message of a [`RecordError`].
pub(crate) type CodeAndMessage = (&'static str, String);

/// An answered record, with everything that its output record contains.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnsweredRecord<'a> {
    /// The record.
    pub(crate) record: &'a Record,
    /// For each prompt and each of its `n` answers, the answers of its turns.
    pub(crate) choices: &'a [Vec<Answer>],
    /// Result id: a hash of the run's settings and the record (hexadecimal).
    pub(crate) name: &'a str,
    /// Name of the model.
    pub(crate) model: &'a str,
    /// `system_fingerprint`: identifies the model file and the program.
    pub(crate) fingerprint: &'a str,
    /// Timestamp, in seconds since 1970.
    pub(crate) stamp: f64,
}

impl AnsweredRecord<'_> {
    /// Returns the tokens of the prompts, each counted once for all its answers, and of the answers.
    pub(crate) fn tokens(&self) -> (u64, u64) {
        let answers = self.choices.iter().flatten().map(|answer| answer.usage.completion_tokens as u64).sum();
        (self.sum_over_prompts(|answer| answer.usage.prompt_tokens), answers)
    }

    /// Returns how many of the prompt tokens, counted in the same way, were already in the KV cache.
    pub(crate) fn cached_tokens(&self) -> u64 {
        self.sum_over_prompts(|answer| answer.usage.cached_tokens)
    }

    /// Sums a number over the first answer of each prompt.
    fn sum_over_prompts(&self, of: fn(&Answer) -> usize) -> u64 {
        let n = (self.choices.len() / self.record.prompts.len().max(1)).max(1);
        self.choices.iter().step_by(n).flatten().map(|answer| of(answer) as u64).sum()
    }
}

/// Sort key of an output record, for formats that define an order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SortKey {
    /// A number.
    Number(i64),
    /// A name; sorts after all numbers.
    Name(String),
}
