//! Estimates the workload of the unfinished records: the number of completions and the maximum number of tokens. With
//! it, a few records with many completions have as many slots as they can use, and short records do not have a KV cache
//! for long ones.

use super::defaults::Defaults;
use super::input::RecordReader;
use super::record::Record;
use super::sink::RecordSink;
use crate::api::PromptInput;
use crate::error::Failure;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Maximum bytes of the input to read. A longer input has enough records for all slots.
const BYTES_MAX: usize = 64 << 20;
/// Tokens of the markers around a message.
const MARKER_TOKENS: u64 = 32;

/// The workload of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WorkloadEstimate {
    /// Number of conversations.
    pub(crate) completions: u64,
    /// Sum of the estimated tokens (prompts and answers) of the longest conversations that can be in the KV cache at
    /// the same time; an upper bound for most texts. `None`: only the context size limits them.
    pub(crate) tokens: Option<u64>,
}

/// Estimates the workload of the `records` that `results` lacks. `n_sequences`: conversations in the KV cache at the
/// same time. Returns `None` for a long input.
pub(crate) fn estimate_workload(
    mut records: RecordReader,
    defaults: &Defaults,
    results: &dyn RecordSink,
    n_sequences: usize,
) -> Result<Option<WorkloadEstimate>, Failure> {
    let (mut bytes, mut completions, mut bounded) = (0_usize, 0_u64, true);
    let mut longest: BinaryHeap<Reverse<u64>> = BinaryHeap::new();
    while let Some(raw) = records.next()? {
        bytes = bytes.saturating_add(raw.bytes.map_or(0, <[u8]>::len));
        if bytes > BYTES_MAX {
            return Ok(None);
        }
        let ours = defaults.shard.has(raw.number) && results.get(raw.key).is_none();
        let Some(Ok(record)) = raw.bytes.filter(|_| ours).map(|bytes| defaults.format.parse(bytes)) else { continue };
        let n = u64::from(record.options.n.unwrap_or(defaults.n));
        completions = completions.saturating_add(n.saturating_mul(record.prompts.len() as u64));
        for prompt in &record.prompts {
            let Some(tokens) = conversation_tokens(prompt, &record, defaults) else {
                bounded = false;
                continue;
            };
            for _ in 0..n.min(n_sequences as u64) {
                longest.push(Reverse(tokens));
                if longest.len() > n_sequences {
                    longest.pop();
                }
            }
        }
        if !bounded && completions >= n_sequences as u64 {
            break;
        }
    }
    let sum = longest.iter().fold(0_u64, |sum, Reverse(tokens)| sum.saturating_add(*tokens));
    Ok(Some(WorkloadEstimate { completions, tokens: bounded.then_some(sum) }))
}

/// Estimates the tokens of a whole conversation; `None` if its answers are not limited.
fn conversation_tokens(prompt: &PromptInput, record: &Record, defaults: &Defaults) -> Option<u64> {
    let max_tokens = record.options.max_tokens.unwrap_or(defaults.max_tokens);
    if max_tokens == u32::MAX {
        return None;
    }
    let prompt: u64 = match prompt {
        PromptInput::Chat(messages) => {
            messages.iter().map(|message| MARKER_TOKENS + text_tokens(&message.content)).sum()
        }
        PromptInput::Text(text) => MARKER_TOKENS + text_tokens(text),
        PromptInput::Ids(ids) => ids.len() as u64,
    };
    let turns: u64 = record.turns.iter().map(|turn| MARKER_TOKENS + text_tokens(turn)).sum();
    let answers = u64::from(max_tokens).saturating_mul(1 + record.turns.len() as u64);
    Some((prompt + turns).saturating_add(answers))
}

/// Estimates the tokens of a text from above: one token for two ASCII bytes (English has about four bytes per token),
/// and one token for every other byte (as for characters that are not in the vocabulary).
fn text_tokens(text: &str) -> u64 {
    let ascii = text.bytes().filter(u8::is_ascii).count();
    (ascii / 2 + (text.len() - ascii)) as u64
}
