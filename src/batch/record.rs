//! Format-independent representation of a record and its result. `formats/` reads and writes them.

use crate::api::{PromptInput, RequestOptions};
use crate::decode::Answer;
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
