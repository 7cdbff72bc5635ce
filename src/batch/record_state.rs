//! A record in progress: its conversations, their answers so far, and the next request of each.

use super::defaults::Defaults;
use super::digest::first_half;
use super::record::Record;
use super::record_key::Key;
use crate::api::{self, PromptInput, Seed};
use crate::decode::{Answer, Request};
use crate::engine::Sampling;
use crate::error::Failure;
use crate::prompt::{Message, Prompts, Role};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// A record with its answers so far.
#[derive(Debug)]
pub(super) struct RecordState {
    pub(super) line: u64,
    pub(super) key: Key,
    record: Record,
    conversations: Vec<Conversation>,
    /// Conversations for each prompt.
    n: usize,
    /// How many times each conversation is written to the output.
    copies: usize,
    unfinished: usize,
}

/// A conversation of the record.
#[derive(Debug)]
struct Conversation {
    prompt: PromptInput,
    answers: Vec<Answer>,
}

/// The next action after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnswerOutcome {
    /// The conversation has another turn.
    NextTurn,
    /// Other conversations of the record are unfinished.
    Incomplete,
    /// The record is answered.
    Complete,
}

impl RecordState {
    /// Creates `n` conversations for each prompt. With greedy decoding all are equal, so only one is computed, and its
    /// answer is copied.
    pub(super) fn new(line: u64, key: Key, record: Record, n: u32, defaults: &Defaults) -> Self {
        let temperature = record.options.temperature.unwrap_or(defaults.sampling.temperature);
        let greedy = Sampling { temperature, ..defaults.sampling.clone() }.is_greedy();
        let n = n.max(1) as usize;
        let (n, copies) = if greedy { (1, n) } else { (n, 1) };
        let prompts = record.prompts.iter().flat_map(|prompt| std::iter::repeat_n(prompt, n));
        let conversations: Vec<Conversation> =
            prompts.map(|prompt| Conversation { prompt: prompt.clone(), answers: Vec::new() }).collect();
        Self { line, key, record, n, copies, unfinished: conversations.len(), conversations }
    }

    /// Number of conversations.
    pub(super) fn len(&self) -> usize {
        self.conversations.len()
    }

    /// The id of the record, as it is in the input.
    pub(super) fn id(&self) -> Option<Value> {
        self.record.fields.iter().next().map(|(_, value)| value.clone())
    }

    /// Returns the next request of conversation `choice`, and a note for the user. Refuses a prompt that is certainly
    /// too long for a context of `n_ctx` tokens without tokenizing it.
    pub(super) fn request(
        &self,
        choice: usize,
        prompts: &Prompts<'_>,
        defaults: &Defaults,
        n_ctx: usize,
    ) -> Result<(Request, Option<&'static str>), Failure> {
        let conversation = &self.conversations[choice];
        let seed = self.seed(defaults.sampling.seed, choice % self.n, conversation.answers.len());
        let options = &self.record.options;
        let sampling = api::sampling(options, &defaults.sampling, seed);
        api::decode_request(&conversation.prompt, options, sampling, defaults.max_tokens, prompts, n_ctx)
    }

    /// Adds an answer of conversation `choice`.
    pub(super) fn add_answer(&mut self, choice: usize, answer: Answer) -> AnswerOutcome {
        let conversation = &mut self.conversations[choice];
        let message = assistant_message(&answer);
        conversation.answers.push(answer);
        let next_turn = self.record.turns.get(conversation.answers.len() - 1);
        if let (PromptInput::Chat(messages), Some(turn)) = (&mut conversation.prompt, next_turn) {
            messages.extend([message, Message::new(Role::User, turn.as_str())]);
            return AnswerOutcome::NextTurn;
        }
        self.unfinished -= 1;
        if self.unfinished == 0 { AnswerOutcome::Complete } else { AnswerOutcome::Incomplete }
    }

    /// Returns the record and, for each conversation, its answers.
    pub(super) fn finish(self) -> (Record, Vec<Vec<Answer>>) {
        let answers = self.conversations.into_iter().flat_map(|conversation| {
            let copies: Vec<Vec<Answer>> =
                (1..self.copies).map(|_| conversation.answers.iter().map(copy).collect()).collect();
            std::iter::once(conversation.answers).chain(copies)
        });
        (self.record, answers.collect())
    }

    /// Returns "prompt 2" or "turn 3", for error messages; `None` if the record has only one request.
    pub(super) fn place(&self, choice: usize) -> Option<String> {
        match (self.conversations[choice].answers.len(), self.record.prompts.len()) {
            (0, 1) => None,
            (0, _) => Some(format!("prompt {}", choice / self.n + 1)),
            (n, _) => Some(format!("turn {}", n + 1)),
        }
    }

    /// Returns the seed of a turn. It depends neither on the line of the record nor on its slot.
    fn seed(&self, seed: u32, sample: usize, turn: usize) -> u32 {
        let first = match self.record.options.seed {
            Seed::Given(seed) => seed,
            Seed::Shared => seed,
            Seed::Own => match &self.record.id {
                Some(id) => mixed(seed, id.as_bytes()),
                None => mixed(seed, &self.key.0),
            },
        };
        let first = first.wrapping_add(sample as u32) % u32::MAX;
        if turn == 0 { first } else { mixed(first, format!("turn {turn}").as_bytes()) }
    }
}

/// Returns a copy of the answer. Its prompt counts as cached, and it takes no time.
fn copy(answer: &Answer) -> Answer {
    let mut copy = answer.clone();
    copy.usage.cached_tokens = copy.usage.prompt_tokens;
    copy.usage.drafts = Default::default();
    (copy.usage.prefill, copy.usage.generation) = Default::default();
    copy
}

fn mixed(seed: u32, name: &[u8]) -> u32 {
    let hash = first_half(Sha256::new().chain_update(seed.to_le_bytes()).chain_update(name));
    u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]]) % u32::MAX
}

/// Returns the assistant message for the next turn: trimmed as in FastChat. The generated ids are kept only if trimming
/// removed nothing; they then match the KV cache.
fn assistant_message(answer: &Answer) -> Message {
    let text = answer.text.trim();
    match &answer.ids {
        Some(ids) if text.len() == answer.text.len() => Message::answer(text, ids.clone()),
        _ => Message::new(Role::Assistant, text),
    }
}
