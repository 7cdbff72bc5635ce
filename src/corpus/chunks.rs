//! Cuts a text into chunks, as llama-perplexity and llama-imatrix do: chunks of `n_ctx` tokens; the rest is left out; the
//! first token of each chunk is replaced by BOS, if the model wants it; the second half of each chunk is scored, so that
//! each scored token has at least half a chunk before it. Of conversations, each is a chunk (`conversations.rs`).

use super::chunk::Chunk;
use super::conversations;
use super::read::Corpus;
use crate::engine::{Token, Vocab};
use crate::error::{Code, Failure};
use crate::prompt::Prompts;

/// What the chunks are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Scores: of conversations, each is a chunk, and what the assistant writes is scored.
    Score,
    /// Activations: conversations are joined, so that every chunk is full.
    Calibrate,
}

/// Cuts `corpus` into at most `n_max` chunks of up to `n_ctx` tokens.
///
/// # Errors
/// `TEXT_TOO_SHORT` when the text has less than one chunk, or nothing to score; errors of the template.
pub(crate) fn chunks(
    corpus: &Corpus,
    purpose: Purpose,
    prompts: &Prompts<'_>,
    vocab: &Vocab<'_>,
    n_ctx: usize,
    n_max: Option<usize>,
) -> Result<Vec<Chunk>, Failure> {
    let n_max = n_max.unwrap_or(usize::MAX);
    let at = |failure: Failure| failure.at(&corpus.name);
    let tokens = match (corpus.conversations()?, purpose) {
        (None, _) => prompts.plain(&corpus.text, true)?,
        (Some(all), Purpose::Calibrate) => conversations::tokens(&all, prompts).map_err(at)?,
        (Some(all), Purpose::Score) => {
            let chunks = conversations::scored_chunks(&all, prompts, vocab, n_ctx, n_max).map_err(at)?;
            if chunks.is_empty() {
                let what = format!("no conversation has an answer within {n_ctx} tokens");
                let fix = "give conversations with answers of the assistant, or a larger -c";
                return Err(Failure::input(Code::TextTooShort, what, fix).at(&corpus.name));
            }
            return Ok(chunks);
        }
    };
    let all = cut(&tokens, vocab.added_bos(), n_ctx, n_max);
    if all.is_empty() {
        let what = format!("the text has {} tokens, less than one chunk of {n_ctx}", tokens.len());
        return Err(Failure::input(Code::TextTooShort, what, "give a longer text, or a smaller -c").at(&corpus.name));
    }
    Ok(all)
}

/// Cuts tokens into chunks of `n_ctx`.
fn cut(tokens: &[Token], bos: Option<Token>, n_ctx: usize, n_max: usize) -> Vec<Chunk> {
    // Position `n_ctx / 2` has the first logits, so the token after it is the first that is scored.
    let scored: Vec<usize> = (n_ctx / 2 + 1..n_ctx).collect();
    let chunk = |tokens: &[Token]| {
        let mut tokens = tokens.to_vec();
        if let (Some(first), Some(bos)) = (tokens.first_mut(), bos) {
            *first = bos;
        }
        Chunk { tokens, scored: scored.clone() }
    };
    tokens.chunks_exact(n_ctx).take(n_max).map(chunk).collect()
}
