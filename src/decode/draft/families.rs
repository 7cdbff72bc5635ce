//! Finished answers of a batch, by the beginning of their prompts: records that share an instruction often have similar
//! answers. Nothing is stored on disk.

use super::guess::Guess;
use super::lookup::{PairIndex, SEPARATOR};
use crate::engine::Token;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// Prompts with this many equal tokens at their beginning are one family.
const BEGINNING: usize = 16;
/// Maximum number of families; the least recently used is dropped.
const FAMILIES_MAX: usize = 64;
/// Maximum number of tokens of a family; then it begins anew.
const TOKENS_MAX: usize = 16 << 10;

/// The family of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::decode) struct FamilyId(u64);

impl FamilyId {
    /// Returns the family of `prompt`.
    pub(in crate::decode) fn of(prompt: &[Token]) -> Self {
        let mut hash = DefaultHasher::new();
        prompt[..prompt.len().min(BEGINNING)].hash(&mut hash);
        Self(hash.finish())
    }
}

/// The finished answers of all families.
#[derive(Debug, Default)]
pub(super) struct Families {
    families: HashMap<FamilyId, Family>,
    n_answers: u64,
}

#[derive(Debug, Default)]
struct Family {
    /// The answers, each followed by a separator.
    tokens: Vec<Token>,
    index: PairIndex,
    /// Number of its last answer.
    last_answer: u64,
}

impl Families {
    /// Adds a finished answer.
    pub(super) fn add(&mut self, id: FamilyId, answer: &[Token]) {
        self.n_answers += 1;
        if !self.families.contains_key(&id) && self.families.len() >= FAMILIES_MAX {
            let oldest = self.families.iter().min_by_key(|(_, family)| family.last_answer).map(|(id, _)| *id);
            oldest.and_then(|oldest| self.families.remove(&oldest));
        }
        let family = self.families.entry(id).or_default();
        family.last_answer = self.n_answers;
        if family.tokens.len() + answer.len() >= TOKENS_MAX {
            *family = Family { last_answer: self.n_answers, ..Family::default() };
        }
        family.tokens.extend(answer.iter().take(TOKENS_MAX - 1).copied().chain([SEPARATOR]));
        family.index.extend(&family.tokens);
    }

    /// Guesses up to `n_max` tokens after `suffix` from the answers of the family.
    pub(super) fn guess(&self, id: FamilyId, suffix: &[Token], n_max: usize) -> Guess {
        let guess = |family: &Family| family.index.guess(&family.tokens, suffix, n_max);
        self.families.get(&id).map(guess).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::{FAMILIES_MAX, Families, FamilyId, TOKENS_MAX, Token};

    fn tokens(ids: impl IntoIterator<Item = i32>) -> Vec<Token> {
        ids.into_iter().map(Token::new).collect()
    }

    #[test]
    fn guesses_come_from_answers_of_the_same_family() {
        let (one, other) = (FamilyId::of(&tokens(0..20)), FamilyId::of(&tokens(1..20)));
        assert_eq!(one, FamilyId::of(&tokens(0..16)));
        let mut families = Families::default();
        families.add(one, &tokens([1, 2, 3, 4]));
        families.add(one, &tokens([9, 9]));
        let suffix = tokens([7, 1, 2]);
        assert_eq!(families.guess(one, &suffix, 8).tokens, tokens([3, 4]), "it ends with the answer");
        assert!(families.guess(other, &suffix, 8).tokens.is_empty());
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut families = Families::default();
        for i in 0..200 {
            let id = FamilyId::of(&tokens([i]));
            families.add(id, &tokens(0..20_000));
            assert_eq!(families.guess(id, &tokens([5, 6]), 1).tokens, tokens([7]));
        }
        assert_eq!(families.families.len(), FAMILIES_MAX);
        assert!(families.families.values().all(|family| family.tokens.len() <= TOKENS_MAX));
    }
}
