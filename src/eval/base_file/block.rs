//! The distributions of the scored tokens of one chunk, as they are in the file and in memory.

use super::super::token_score::Distribution;
use super::output_matrix::OutputMatrix;
use super::row_facts::{self, RowFacts};
use super::{logits16, states};

/// How distributions are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Encoding {
    /// Hidden states, in at most a tenth of the size of llama-perplexity's file
    #[default]
    Compact,
    /// All logits in 16 bits, like llama-perplexity's file
    Logits16,
}

impl Encoding {
    /// Its name in the file.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Compact => "compact",
            Self::Logits16 => "logits16",
        }
    }
}

/// Part of the size of llama-perplexity's file that a compact file takes at most.
const PART_MAX: f64 = 0.099;

/// Distributions of consecutive scored tokens.
#[derive(Debug)]
pub(crate) struct Block {
    /// Logits, a row for each token.
    logits: Vec<f32>,
    n_vocab: usize,
    facts: Vec<RowFacts>,
}

impl Block {
    /// Returns the stored logits and the facts of a row.
    pub(crate) fn row(&self, row: usize) -> Option<(&[f32], &RowFacts)> {
        let logits = self.logits.get(row * self.n_vocab..(row + 1) * self.n_vocab)?;
        Some((logits, self.facts.get(row)?))
    }

    /// Decodes the bytes that [`encode`] returned; `None` when they are damaged.
    pub(crate) fn decode(bytes: &[u8], matrix: &OutputMatrix, encoding: Encoding, n_threads: usize) -> Option<Self> {
        let n_vocab = matrix.n_vocab();
        let (facts, rest) = read_facts(bytes)?;
        let logits = match encoding {
            Encoding::Compact => matrix.logits(&states::decode(rest, matrix.n_embd(), facts.len())?, n_threads),
            Encoding::Logits16 => logits16::decode(rest, n_vocab, facts.len())?,
        };
        Some(Self { logits, n_vocab, facts })
    }

    /// Reads only the facts.
    pub(crate) fn decode_facts(bytes: &[u8]) -> Option<Vec<RowFacts>> {
        read_facts(bytes).map(|(facts, _)| facts)
    }
}

fn read_facts(bytes: &[u8]) -> Option<(Vec<RowFacts>, &[u8])> {
    let (n, rest) = bytes.split_first_chunk::<4>()?;
    let n = u32::from_le_bytes(*n) as usize;
    let (facts, rest) = rest.split_at_checked(n.checked_mul(row_facts::BYTES)?)?;
    let facts = facts.chunks_exact(row_facts::BYTES).map(RowFacts::read).collect::<Option<_>>()?;
    Some((facts, rest))
}

/// Encodes a chunk: for each scored token the base's `logits`, and the hidden states that they were computed from.
/// `tokens` are the scored tokens. `None` when logits are not finite.
pub(crate) fn encode(
    logits: &[&[f32]],
    hidden: &[f32],
    tokens: &[usize],
    matrix: &OutputMatrix,
    encoding: Encoding,
    n_threads: usize,
) -> Option<Vec<u8>> {
    let (n_vocab, n_embd) = (matrix.n_vocab(), matrix.n_embd());
    let (body, stored) = match encoding {
        Encoding::Compact => {
            let body = states::encode(hidden, n_embd, budget(logits.len(), n_vocab));
            let stored = matrix.logits(&states::decode(&body, n_embd, logits.len())?, n_threads);
            (body, stored)
        }
        Encoding::Logits16 => {
            let body = logits16::encode(logits);
            let stored = logits16::decode(&body, n_vocab, logits.len())?;
            (body, stored)
        }
    };
    let rows: Vec<_> = logits.iter().zip(stored.chunks(n_vocab.max(1))).zip(tokens).collect();
    let part = rows.len().div_ceil(n_threads.max(1)).max(1);
    let facts: Vec<Option<RowFacts>> = std::thread::scope(|scope| {
        let of = |((exact, stored), token): &((&&[f32], &[f32]), &usize)| facts(exact, stored, **token);
        let parts = rows.chunks(part).map(|rows| scope.spawn(move || rows.iter().map(of).collect::<Vec<_>>()));
        let parts: Vec<_> = parts.collect();
        parts.into_iter().filter_map(|part| part.join().ok()).flatten().collect()
    });
    let facts: Vec<RowFacts> = facts.into_iter().collect::<Option<_>>()?;
    let mut out = u32::try_from(facts.len()).ok()?.to_le_bytes().to_vec();
    facts.iter().for_each(|facts| facts.write(&mut out));
    out.extend(body);
    Some(out)
}

/// Returns the bytes that the states of `n_rows` may take.
fn budget(n_rows: usize, n_vocab: usize) -> usize {
    // llama-perplexity stores a row as two f32 and an even number of 16-bit values.
    let row = 2 * (n_vocab.next_multiple_of(2) + 4);
    let all = (PART_MAX * (row * n_rows) as f64) as usize;
    all.saturating_sub(n_rows * row_facts::BYTES + 64)
}

fn facts(exact: &[f32], stored: &[f32], token: usize) -> Option<RowFacts> {
    let (exact, stored) = (Distribution::new(exact)?, Distribution::new(stored)?);
    Some(RowFacts::new(exact.nll(token) as f32, exact.top(), &exact.log_probabilities(), &stored.log_probabilities()))
}
