//! A guess: the tokens that may come next, and how likely each is expected to be right.

use crate::engine::{Distribution, Token};

/// Guessed tokens of one slot.
#[derive(Clone, Debug, Default)]
pub(in crate::decode) struct Guess {
    /// The tokens, the next one first.
    pub(in crate::decode) tokens: Vec<Token>,
    /// For each token, its class in [`super::rates::Rates`].
    pub(super) classes: Vec<usize>,
    /// The distributions that the tokens were drawn from; none if the guesses are certain of them.
    pub(in crate::decode) proposals: Vec<Distribution>,
}

impl Guess {
    /// Appends a token.
    pub(super) fn push(&mut self, token: Token, class: usize, proposal: Option<Distribution>) {
        self.tokens.push(token);
        self.classes.push(class);
        self.proposals.extend(proposal);
    }

    /// Shortens the guess to `len` tokens.
    pub(super) fn truncate(&mut self, len: usize) {
        self.tokens.truncate(len);
        self.classes.truncate(len);
        self.proposals.truncate(len);
    }
}
