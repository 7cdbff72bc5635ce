//! What the records that are left ask for: how many answers, and how many tokens at the most. So a few records with many
//! answers get as many slots as they can use, and short records get no KV cache for long ones.

use super::defaults::Defaults;
use super::input::RecordReader;
use super::record::{PromptInput, Record};
use super::sink::RecordSink;
use crate::error::Failure;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// An input that is longer is not looked at: it has records enough, and reading it takes time.
const BYTES_MAX: usize = 64 << 20;
/// Tokens around a message.
const TAGS: u64 = 32;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WorkloadEstimate {
    /// Conversations.
    pub(crate) answers: u64,
    /// Tokens that so many of the longest conversations have together, prompts and answers; about, and rather too many.
    /// `None`: nothing but the window ends them.
    pub(crate) tokens: Option<u64>,
}

/// Looks at the records of `items` that `results` lack; `at_once`: how many conversations there will be at the same time.
/// `None` where the input is long.
pub(crate) fn estimate_workload(
    mut items: RecordReader,
    defaults: &Defaults,
    results: &dyn RecordSink,
    at_once: usize,
) -> Result<Option<WorkloadEstimate>, Failure> {
    let (mut bytes, mut answers, mut bounded) = (0_usize, 0_u64, true);
    let mut longest: BinaryHeap<Reverse<u64>> = BinaryHeap::new();
    while let Some(item) = items.next()? {
        bytes = bytes.saturating_add(item.bytes.map_or(0, <[u8]>::len));
        if bytes > BYTES_MAX {
            return Ok(None);
        }
        let ours = defaults.shard.has(item.number) && results.get(item.key).is_none();
        let Some(Ok(record)) = item.bytes.filter(|_| ours).map(|bytes| defaults.format.parse(bytes)) else { continue };
        let n = u64::from(record.options.n.unwrap_or(defaults.n));
        answers = answers.saturating_add(n.saturating_mul(record.asks.len() as u64));
        for ask in &record.asks {
            let Some(tokens) = tokens(ask, &record, defaults) else {
                bounded = false;
                continue;
            };
            for _ in 0..n.min(at_once as u64) {
                longest.push(Reverse(tokens));
                if longest.len() > at_once {
                    longest.pop();
                }
            }
        }
        if !bounded && answers >= at_once as u64 {
            break;
        }
    }
    let sum = longest.iter().fold(0_u64, |sum, Reverse(tokens)| sum.saturating_add(*tokens));
    Ok(Some(WorkloadEstimate { answers, tokens: bounded.then_some(sum) }))
}

/// Tokens that a conversation has at the end, about.
fn tokens(ask: &PromptInput, record: &Record, defaults: &Defaults) -> Option<u64> {
    let most = record.options.max_tokens.unwrap_or(defaults.max_tokens);
    if most == u32::MAX {
        return None;
    }
    let prompt: u64 = match ask {
        PromptInput::Chat(messages) => messages.iter().map(|message| TAGS + read(&message.content)).sum(),
        PromptInput::Text(text) => TAGS + read(text),
        PromptInput::Ids(ids) => ids.len() as u64,
    };
    let turns: u64 = record.turns.iter().map(|turn| TAGS + read(turn)).sum();
    let answers = u64::from(most).saturating_mul(1 + record.turns.len() as u64);
    Some((prompt + turns).saturating_add(answers))
}

/// Tokens of a text: English has some four bytes in each, and what a vocabulary lacks is spelled in bytes.
fn read(text: &str) -> u64 {
    let ascii = text.bytes().filter(u8::is_ascii).count();
    (ascii / 2 + (text.len() - ascii)) as u64
}
