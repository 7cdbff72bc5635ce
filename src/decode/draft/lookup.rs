//! Guesses from earlier text (prompt lookup): finds where the last tokens occurred before, and guesses that the same
//! tokens follow again.

use super::guess::Guess;
use super::rates::Rates;
use crate::engine::Token;
use std::collections::HashMap;

/// The position of no token.
const NONE: u32 = u32::MAX;
/// Maximum number of earlier occurrences that are compared.
const OCCURRENCES_MAX: usize = 32;
/// Longer matches count as this many tokens.
const MATCH_MAX: usize = 16;
/// Weight of an occurrence for each matching token: a longer match always outweighs the number of shorter ones.
const PER_TOKEN: f64 = 4.0;
/// Weight of an occurrence relative to the next later one with the same match.
const OLDER: f64 = 0.95;

/// For every pair of neighboring tokens in a growing list, where it occurs.
#[derive(Debug, Default)]
pub(in crate::decode) struct PairIndex {
    /// The last position of each pair: that of its second token.
    last: HashMap<(Token, Token), u32>,
    /// For each position, the position before it with the same pair.
    earlier: Vec<u32>,
}

impl PairIndex {
    /// Adds the tokens that are new in `tokens`, which the index has the beginning of.
    pub(in crate::decode) fn extend(&mut self, tokens: &[Token]) {
        for i in self.earlier.len()..tokens.len() {
            let at = u32::try_from(i).unwrap_or(NONE);
            let earlier = match i.checked_sub(1).map(|before| (tokens[before], tokens[i])) {
                Some(pair) => self.last.insert(pair, at).unwrap_or(NONE),
                None => NONE,
            };
            self.earlier.push(earlier);
        }
    }

    /// Guesses up to `n_max` tokens after `suffix` from `tokens`, whose index this is. They can be the same list.
    pub(super) fn guess(&self, tokens: &[Token], suffix: &[Token], n_max: usize) -> Guess {
        let [.., before, last] = suffix else { return Guess::default() };
        let mut occurrences: Vec<Occurrence> = Vec::new();
        let (mut at, mut recency) = (self.last.get(&(*before, *last)).copied().unwrap_or(NONE), 1.0);
        while at != NONE && occurrences.len() < OCCURRENCES_MAX {
            let next = at as usize + 1;
            // The end of the list has no next token.
            if next < tokens.len() {
                let matched = common_suffix(&tokens[..next], suffix);
                occurrences.push(Occurrence { next, matched, weight: PER_TOKEN.powi(exponent(matched)) * recency });
                recency *= OLDER;
            }
            at = self.earlier.get(at as usize).copied().unwrap_or(NONE);
        }
        vote(tokens, occurrences, n_max)
    }
}

/// A place where the suffix occurred before.
struct Occurrence {
    /// Position of the token that followed.
    next: usize,
    /// Number of equal tokens.
    matched: usize,
    weight: f64,
}

fn exponent(matched: usize) -> i32 {
    i32::try_from(matched.min(MATCH_MAX)).unwrap_or(0)
}

/// Chooses token after token: the one that follows in the occurrences with the largest weight together. Then only these
/// occurrences are followed further. The end of the list continues with the guessed tokens, for text that repeats
/// itself without end.
fn vote(tokens: &[Token], mut occurrences: Vec<Occurrence>, n_max: usize) -> Guess {
    let mut guess = Guess::default();
    while guess.tokens.len() < n_max {
        let n = guess.tokens.len();
        let follows = |occurrence: &Occurrence| {
            let at = occurrence.next + n;
            tokens.get(at).or_else(|| guess.tokens.get(at - tokens.len())).copied()
        };
        let mut weights: Vec<(Token, f64)> = Vec::new();
        for occurrence in &occurrences {
            let Some(token) = follows(occurrence).filter(|token| *token != SEPARATOR) else { continue };
            match weights.iter_mut().find(|(other, _)| *other == token) {
                Some((_, weight)) => *weight += occurrence.weight,
                None => weights.push((token, occurrence.weight)),
            }
        }
        let Some((best, _)) = weights.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)) else { break };
        occurrences.retain(|occurrence| follows(occurrence) == Some(best));
        let matched = occurrences.iter().map(|occurrence| occurrence.matched).max().unwrap_or(0);
        guess.push(best, Rates::class(matched + n), None);
    }
    guess
}

/// Stands between the answers of a family; no model has this token.
pub(super) const SEPARATOR: Token = Token(-1);

/// Returns the length of the longest common suffix, at most [`MATCH_MAX`].
fn common_suffix(a: &[Token], b: &[Token]) -> usize {
    a.iter().rev().zip(b.iter().rev()).take(MATCH_MAX).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::{PairIndex, Token};

    fn guess(ids: &[i32], n_max: usize) -> Vec<i32> {
        let tokens: Vec<Token> = ids.iter().map(|id| Token::new(*id)).collect();
        let mut index = PairIndex::default();
        // In two parts, as during generation.
        index.extend(&tokens[..tokens.len() / 2]);
        index.extend(&tokens);
        index.guess(&tokens, &tokens, n_max).tokens.iter().map(|token| token.0).collect()
    }

    #[test]
    fn the_longest_match_wins_then_the_count_then_the_latest() {
        assert_eq!(guess(&[7, 1, 2, 3, 9, 9, 1, 2, 4, 8, 7, 1, 2], 2), [3, 9], "7 1 2 is longer than 1 2");
        assert_eq!(guess(&[1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 4, 5, 1, 2], 1), [3], "3 came twice");
        assert_eq!(guess(&[1, 2, 3, 0, 1, 2, 4, 5, 1, 2], 1), [4], "4 came last");
    }

    #[test]
    fn nothing_is_guessed_without_a_pair() {
        assert!(guess(&[1, 2, 3, 4], 4).is_empty());
        assert!(guess(&[1], 4).is_empty());
        assert!(guess(&[], 4).is_empty());
        assert!(guess(&[5, 5], 4).is_empty(), "the last pair itself is no earlier occurrence");
    }

    #[test]
    fn text_that_repeats_itself_is_continued() {
        assert_eq!(guess(&[1, 2, 3, 1, 2, 3, 1, 2], 7), [3, 1, 2, 3, 1, 2, 3]);
        assert_eq!(guess(&[5, 5, 5], 4), [5, 5, 5, 5]);
    }
}
