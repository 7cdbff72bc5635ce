//! Cuts a text into chunks, as llama-perplexity and llama-imatrix do: chunks of `n_ctx` tokens; the rest is left out; the
//! first token of each chunk is replaced by BOS, if the model wants it; the second half of each chunk is scored, so that
//! each scored token has at least half a chunk before it.

use super::read::Corpus;
use crate::engine::{Token, Vocab};
use crate::error::{Code, Failure};
use crate::prompt::Prompts;

/// Tokens to compute as one sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// The tokens.
    pub(crate) tokens: Vec<Token>,
    /// Positions of the tokens that are scored, ascending; never the first.
    pub(crate) scored: Vec<usize>,
}

impl Chunk {
    /// For each position, whether its logits are needed: those before a scored token.
    pub(crate) fn needed_logits(&self) -> Vec<bool> {
        let mut needed = vec![false; self.tokens.len()];
        for at in &self.scored {
            needed[at - 1] = true;
        }
        needed
    }
}

/// Cuts `corpus` into at most `n_max` chunks of `n_ctx` tokens.
///
/// # Errors
/// `TEXT_TOO_SHORT` when the text has less than one chunk.
pub(crate) fn chunks(
    corpus: &Corpus,
    prompts: &Prompts<'_>,
    vocab: &Vocab<'_>,
    n_ctx: usize,
    n_max: Option<usize>,
) -> Result<Vec<Chunk>, Failure> {
    let tokens = prompts.plain(&corpus.text, true)?;
    let bos = vocab.added_bos();
    // Position `n_ctx / 2` has the first logits, so the token after it is the first that is scored.
    let scored: Vec<usize> = (n_ctx / 2 + 1..n_ctx).collect();
    let chunk = |tokens: &[Token]| {
        let mut tokens = tokens.to_vec();
        if let (Some(first), Some(bos)) = (tokens.first_mut(), bos) {
            *first = bos;
        }
        Chunk { tokens, scored: scored.clone() }
    };
    let all: Vec<Chunk> = tokens.chunks_exact(n_ctx).take(n_max.unwrap_or(usize::MAX)).map(chunk).collect();
    if all.is_empty() {
        let what = format!("the text has {} tokens, less than one chunk of {n_ctx}", tokens.len());
        return Err(Failure::input(Code::TextTooShort, what, "give a longer text, or a smaller -c").at(&corpus.name));
    }
    Ok(all)
}
