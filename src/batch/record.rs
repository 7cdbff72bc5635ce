//! A record between the formats: what is asked, and what came of it. How it is written in a file is a format's affair.

use crate::decode::Answer;
use crate::engine::Token;
use crate::prompt::Message;
use serde_json::{Map, Value};

/// A record that can be answered. It gets `n` answers to each prompt, and each answer goes on through the turns.
#[derive(Debug, PartialEq)]
pub(crate) struct Record {
    /// The caller's name for it, which no other record has; `None` in a format without names.
    pub(crate) id: Option<String>,
    /// The model that it asks for, where its format has such a field.
    pub(crate) model: Option<String>,
    /// What to answer; at least one.
    pub(crate) asks: Vec<PromptInput>,
    /// What the user says after the first answer, and after the next ones.
    pub(crate) turns: Vec<String>,
    /// How.
    pub(crate) options: RequestOptions,
    /// What the output repeats of the input.
    pub(crate) fields: Map<String, Value>,
}

/// What the model is given.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PromptInput {
    /// A conversation.
    Chat(Vec<Message>),
    /// A text to go on with, as its template has rendered it: control tokens in it count as such.
    Text(String),
    /// Ids to go on with.
    Ids(Vec<Token>),
}

impl PromptInput {
    /// Bytes of its text; none where there are ids.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Chat(messages) => messages.iter().map(|message| message.content.len()).sum(),
            Self::Text(text) => text.len(),
            Self::Ids(_) => 0,
        }
    }
}

/// What the record says about its answers; the rest is up to the flags.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RequestOptions {
    /// Answers to each prompt.
    pub(crate) n: Option<u32>,
    /// Tokens of an answer at most.
    pub(crate) max_tokens: Option<u32>,
    /// As everywhere.
    pub(crate) temperature: Option<f32>,
    /// As everywhere.
    pub(crate) top_p: Option<f32>,
    /// vLLM's and llama.cpp's.
    pub(crate) top_k: Option<u32>,
    /// vLLM's and llama.cpp's.
    pub(crate) min_p: Option<f32>,
    /// llama.cpp's.
    pub(crate) repeat_penalty: Option<f32>,
    /// vLLM's: as `repeat_penalty`, over the whole prompt and answer.
    pub(crate) repetition_penalty: Option<f32>,
    /// As everywhere.
    pub(crate) presence_penalty: Option<f32>,
    /// As everywhere.
    pub(crate) frequency_penalty: Option<f32>,
    /// Where its random numbers begin.
    pub(crate) seed: Seed,
    /// The answer ends before any of these.
    pub(crate) stop: Vec<String>,
    /// Put BOS before a text; yes, unless it says no.
    pub(crate) add_bos: Option<bool>,
    /// Say how likely each token was, and this many others at its place.
    pub(crate) logprobs: Option<u8>,
}

/// Where the random numbers of a record begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Seed {
    /// At a number of its own: of the flag's and of its name.
    #[default]
    Own,
    /// At the flag's.
    Shared,
    /// At this one.
    Given(u32),
}

/// Why a record is not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordError {
    /// The record's name as far as it could be read.
    pub(crate) id: Option<Value>,
    /// Stable, lower case.
    pub(crate) code: &'static str,
    /// What is wrong.
    pub(crate) message: String,
}

/// Code and message of a refusal.
pub(crate) type CodeAndMessage = (&'static str, String);

/// Everything that an output record is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnsweredRecord<'a> {
    /// What was asked.
    pub(crate) record: &'a Record,
    /// For each prompt and each of its `n` answers, the answers of its turns.
    pub(crate) choices: &'a [Vec<Answer>],
    /// A name for the record that no other record of any run has: hexadecimal digits.
    pub(crate) name: &'a str,
    /// The model that answered.
    pub(crate) model: &'a str,
    /// Names the model file and the program.
    pub(crate) fingerprint: &'a str,
    /// Seconds since 1970.
    pub(crate) stamp: f64,
}

impl AnsweredRecord<'_> {
    /// Tokens of the prompts, each counted once however many answers it has, and of the answers.
    pub(crate) fn tokens(&self) -> (u64, u64) {
        let answers = self.choices.iter().flatten().map(|answer| answer.usage.completion_tokens as u64).sum();
        (self.once(|answer| answer.usage.prompt_tokens), answers)
    }

    /// Of the tokens of the prompts, counted likewise, those that were in the KV cache already.
    pub(crate) fn cached_tokens(&self) -> u64 {
        self.once(|answer| answer.usage.cached_tokens)
    }

    /// A number of the first answer to each prompt, summed.
    fn once(&self, of: fn(&Answer) -> usize) -> u64 {
        let n = (self.choices.len() / self.record.asks.len().max(1)).max(1);
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
