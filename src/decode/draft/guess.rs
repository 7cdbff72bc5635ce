//! A guess: the tokens that may come next, and how likely each is expected to be right.

use crate::engine::Token;

/// Guessed tokens of one slot.
#[derive(Clone, Debug, Default)]
pub(in crate::decode) struct Guess {
    /// The tokens, the next one first.
    pub(in crate::decode) tokens: Vec<Token>,
    /// For each token, its class in [`super::rates::Rates`].
    pub(super) classes: Vec<usize>,
}

impl Guess {
    /// Shortens the guess to `len` tokens.
    pub(super) fn truncate(&mut self, len: usize) {
        self.tokens.truncate(len);
        self.classes.truncate(len);
    }
}
