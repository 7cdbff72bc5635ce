//! A running answer for which tokens can be guessed.

use super::families::FamilyId;
use super::lookup::PairIndex;
use crate::engine::{Sampler, Token};

/// A running answer for which tokens can be guessed.
#[derive(Debug)]
pub(in crate::decode) struct Subject<'a> {
    /// The slot of the answer.
    pub(in crate::decode) slot: usize,
    /// Prompt and answer so far.
    pub(in crate::decode) ids: &'a [Token],
    /// Number of tokens of the prompt.
    pub(in crate::decode) n_prompt: usize,
    /// The index of `ids`.
    pub(in crate::decode) index: &'a PairIndex,
    /// The family of the prompt.
    pub(in crate::decode) family: FamilyId,
    /// Maximum tokens to guess.
    pub(in crate::decode) n_max: usize,
    /// Draws the tokens that a second model proposes; `None` without one.
    pub(in crate::decode) proposer: Option<Sampler>,
}
