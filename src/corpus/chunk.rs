//! A chunk of a text.

use crate::engine::Token;

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
