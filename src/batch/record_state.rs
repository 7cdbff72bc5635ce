//! One record while it is being answered: the conversations it has become, and what each asks for next.

use super::defaults::Defaults;
use super::digest::first_half;
use super::record::{PromptInput, Record, Seed};
use super::record_key::Key;
use crate::decode::{Answer, Request, TURN_MARKERS};
use crate::engine::Sampling;
use crate::error::{Code, Failure};
use crate::prompt::{Message, Prompts, Role};
use sha2::{Digest, Sha256};

/// A record with its answers so far.
#[derive(Debug)]
pub(super) struct RecordState {
    pub(super) line: u64,
    pub(super) key: Key,
    pub(super) record: Record,
    talks: Vec<Conversation>,
    /// Conversations for each prompt.
    n: usize,
    /// How often the output has each of them.
    copies: usize,
    unfinished: usize,
}

/// One of its conversations.
#[derive(Debug)]
struct Conversation {
    ask: PromptInput,
    answers: Vec<Answer>,
}

/// What an answer means for its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnswerOutcome {
    /// Its conversation goes on with another turn.
    Turn,
    /// Other conversations of the record are unfinished.
    Wait,
    /// The record is answered.
    FinishedRecord,
}

impl RecordState {
    /// Every prompt gets `n` answers. Where nothing is left to chance they are the same, so they are computed once.
    pub(super) fn new(line: u64, key: Key, record: Record, n: u32, defaults: &Defaults) -> Self {
        let temperature = record.options.temperature.unwrap_or(defaults.sampling.temperature);
        let greedy = Sampling { temperature, ..defaults.sampling.clone() }.is_greedy();
        let n = n.max(1) as usize;
        let (n, copies) = if greedy { (1, n) } else { (n, 1) };
        let asks = record.asks.iter().flat_map(|ask| std::iter::repeat_n(ask, n));
        let talks: Vec<Conversation> = asks.map(|ask| Conversation { ask: ask.clone(), answers: Vec::new() }).collect();
        Self { line, key, record, n, copies, unfinished: talks.len(), talks }
    }

    /// How many conversations there are.
    pub(super) fn len(&self) -> usize {
        self.talks.len()
    }

    /// What the conversation `choice` asks for next, and something the user should know. A prompt that is far too long for
    /// a window of `n_ctx` tokens is refused before it is tokenized.
    pub(super) fn request(
        &self,
        choice: usize,
        prompts: &Prompts<'_>,
        defaults: &Defaults,
        n_ctx: usize,
    ) -> Result<(Request, Option<&'static str>), Failure> {
        let talk = &self.talks[choice];
        let n_least = prompts.at_least(talk.ask.len());
        if n_least >= n_ctx {
            let what = format!("the prompt has {n_least} tokens or more and the window holds {n_ctx}, answer included");
            return Err(Failure::input(Code::ContextLength, what, "shorten it, or give a larger -c"));
        }
        let (ids, mut stop, notice) = match &talk.ask {
            PromptInput::Chat(messages) => {
                let prompt = prompts.render(messages, true)?;
                (prompt.ids, TURN_MARKERS.map(str::to_owned).to_vec(), prompt.notice)
            }
            PromptInput::Text(text) => {
                let (ids, notice) = prompts.rendered(text, self.record.options.add_bos.unwrap_or(true))?;
                (ids, Vec::new(), notice)
            }
            PromptInput::Ids(ids) => (prompts.checked(ids)?, Vec::new(), None),
        };
        let options = &self.record.options;
        stop.extend(options.stop.iter().cloned());
        let default = &defaults.sampling;
        let mut sampling = Sampling {
            temperature: options.temperature.unwrap_or(default.temperature),
            top_k: options.top_k.unwrap_or(default.top_k),
            top_p: options.top_p.unwrap_or(default.top_p),
            min_p: options.min_p.unwrap_or(default.min_p),
            repeat_penalty: options.repeat_penalty.unwrap_or(default.repeat_penalty),
            presence_penalty: options.presence_penalty.unwrap_or(default.presence_penalty),
            frequency_penalty: options.frequency_penalty.unwrap_or(default.frequency_penalty),
            seed: self.seed(default.seed, choice % self.n, talk.answers.len()),
            ..default.clone()
        };
        if let Some(penalty) = options.repetition_penalty {
            // Over all of the prompt and the answer, however long it becomes.
            (sampling.repeat_penalty, sampling.repeat_last_n) = (penalty, Sampling::REPEAT_LAST_N_MAX);
        }
        let max_tokens = options.max_tokens.unwrap_or(defaults.max_tokens);
        Ok((Request { ids, sampling: sampling.check()?, max_tokens, stop, logprobs: options.logprobs }, notice))
    }

    /// Takes an answer of the conversation `choice` in.
    pub(super) fn take(&mut self, choice: usize, answer: Answer) -> AnswerOutcome {
        let talk = &mut self.talks[choice];
        let said = said(&answer);
        talk.answers.push(answer);
        if let (PromptInput::Chat(messages), Some(turn)) =
            (&mut talk.ask, self.record.turns.get(talk.answers.len() - 1))
        {
            messages.extend([said, Message::new(Role::User, turn.as_str())]);
            return AnswerOutcome::Turn;
        }
        self.unfinished -= 1;
        if self.unfinished == 0 { AnswerOutcome::FinishedRecord } else { AnswerOutcome::Wait }
    }

    /// The record and, for each conversation, its answers.
    pub(super) fn finish(self) -> (Record, Vec<Vec<Answer>>) {
        let answers = self.talks.into_iter().flat_map(|talk| {
            let copies: Vec<Vec<Answer>> = (1..self.copies).map(|_| talk.answers.iter().map(copy).collect()).collect();
            std::iter::once(talk.answers).chain(copies)
        });
        (self.record, answers.collect())
    }

    /// Which part of the record `choice` is at, where there are several.
    pub(super) fn place(&self, choice: usize) -> Option<String> {
        match (self.talks[choice].answers.len(), self.record.asks.len()) {
            (0, 1) => None,
            (0, _) => Some(format!("prompt {}", choice / self.n + 1)),
            (n, _) => Some(format!("turn {}", n + 1)),
        }
    }

    /// Depends neither on the line of the record nor on the slot it gets.
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

/// The same answer once more: its prompt is in the cache, and it takes no time.
fn copy(answer: &Answer) -> Answer {
    let mut copy = answer.clone();
    copy.usage.cached_tokens = copy.usage.prompt_tokens;
    (copy.usage.prefill, copy.usage.generation) = Default::default();
    copy
}

fn mixed(seed: u32, name: &[u8]) -> u32 {
    let hash = first_half(Sha256::new().chain_update(seed.to_le_bytes()).chain_update(name));
    u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]]) % u32::MAX
}

/// An answer as the next turn sees it: stripped, as FastChat does it, and with the ids that the cache holds where stripping
/// takes nothing away.
fn said(answer: &Answer) -> Message {
    let text = answer.text.trim();
    match &answer.ids {
        Some(ids) if text.len() == answer.text.len() => Message::answer(text, ids.clone()),
        _ => Message::new(Role::Assistant, text),
    }
}
