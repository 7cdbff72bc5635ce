//! Guesses that are right with a given probability, to measure what drafts can gain. The answer is given in advance.

use super::guess::Guess;
use super::rates::Rates;
use super::subject::Subject;
use crate::engine::Token;

/// A given answer, of which each token is guessed with the probability `rate`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Forced {
    /// The tokens of every answer: they replace the tokens that the model chooses.
    pub(crate) answer: Vec<Token>,
    /// The probability that a guessed token is right.
    pub(crate) rate: f64,
}

impl Forced {
    /// Guesses up to `n` tokens.
    pub(super) fn guess(&self, subject: &Subject<'_>, n: usize) -> Guess {
        let mut guess = Guess::default();
        for (i, token) in self.answer.iter().enumerate().skip(subject.ids.len() - subject.n_prompt).take(n) {
            let right = fraction(i as u64) < self.rate;
            let wrong = Token::new(i32::from(token.0 == 0));
            guess.push(if right { *token } else { wrong }, Rates::SECOND_MODEL, None);
        }
        guess
    }
}

/// Returns a number from 0 to 1 that looks random: SplitMix64 of `i`.
fn fraction(i: u64) -> f64 {
    let z = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::fraction;

    #[test]
    fn fractions_are_spread_evenly() {
        let below = (0..10_000).filter(|i| fraction(*i) < 0.3).count();
        assert!((2_900..3_100).contains(&below), "{below}");
    }
}
