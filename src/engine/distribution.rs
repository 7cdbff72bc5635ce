//! The distribution that the next token is drawn from, and the steps of speculative sampling (arXiv:2211.17192) with it.

use super::Token;

/// The probabilities of the next token. Tokens that are not in it have probability 0.
#[derive(Clone, Debug, Default)]
pub(crate) struct Distribution {
    /// Token and probability, in the order of the tokens. The probabilities add up to about 1.
    entries: Vec<(Token, f64)>,
}

impl Distribution {
    /// Normalizes the softmax of `logits`.
    pub(super) fn of_logits(logits: impl Iterator<Item = (Token, f32)> + Clone) -> Self {
        let max = logits.clone().fold(f32::NEG_INFINITY, |max, (_, logit)| max.max(logit));
        let weight = |(token, logit): (Token, f32)| (token, f64::from(logit - max).exp());
        Self::normalized(logits.map(weight).collect())
    }

    /// The distribution in which only `token` is possible.
    pub(super) fn only(token: Token) -> Self {
        Self { entries: vec![(token, 1.0)] }
    }

    fn normalized(mut entries: Vec<(Token, f64)>) -> Self {
        let sum: f64 = entries.iter().map(|(_, weight)| weight).sum();
        entries.iter_mut().for_each(|(_, weight)| *weight /= sum);
        entries.sort_by_key(|(token, _)| *token);
        Self { entries }
    }

    /// Returns the probability of `token`.
    pub(super) fn probability(&self, token: Token) -> f64 {
        let at = self.entries.binary_search_by_key(&token, |(token, _)| *token);
        at.map_or(0.0, |at| self.entries[at].1)
    }

    /// Returns the probability of the most likely token.
    pub(super) fn largest(&self) -> f64 {
        self.entries.iter().map(|(_, probability)| *probability).fold(0.0, f64::max)
    }

    /// Draws a token with `random`, a uniform number from 0 to 1. `None` if there is none.
    pub(super) fn draw(&self, random: f64) -> Option<Token> {
        let mut left = random;
        for (token, probability) in &self.entries {
            left -= probability;
            if left < 0.0 {
                return Some(*token);
            }
        }
        // Rounding: the sum is slightly below 1.
        self.entries.iter().rev().find(|(_, probability)| *probability > 0.0).map(|(token, _)| *token)
    }

    /// Returns the distribution of tokens after a token drawn from `proposal` was rejected: proportional to the amount
    /// by which a probability is larger than the proposal's. If there is none because of rounding, returns this one.
    pub(super) fn residual(&self, proposal: &Self) -> Self {
        let above = |(token, probability): &(Token, f64)| {
            let more = probability - proposal.probability(*token);
            (more > 0.0).then_some((*token, more))
        };
        let entries: Vec<_> = self.entries.iter().filter_map(above).collect();
        if entries.is_empty() { self.clone() } else { Self::normalized(entries) }
    }
}

/// Uniform random numbers (SplitMix64).
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    /// `stream`: different streams of one seed are independent.
    pub(super) fn new(seed: u32, stream: u64) -> Self {
        Self(Self(u64::from(seed)).bits() ^ Self(stream).bits().rotate_left(17))
    }

    /// Returns the next number, from 0 to less than 1.
    pub(super) fn next(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::{Distribution, Random, Token};

    fn distribution(weights: &[f64]) -> Distribution {
        let entries = (0..).map(Token::new).zip(weights.iter().copied()).filter(|(_, weight)| *weight > 0.0);
        Distribution::normalized(entries.collect())
    }

    #[test]
    fn residual_keeps_what_is_above_the_proposal() {
        let (target, proposal) = (distribution(&[0.5, 0.3, 0.2, 0.0]), distribution(&[0.2, 0.7, 0.0, 0.1]));
        let residual = target.residual(&proposal);
        assert!((residual.probability(Token::new(0)) - 0.6).abs() < 1e-12);
        assert_eq!(residual.probability(Token::new(1)), 0.0);
        assert!((residual.probability(Token::new(2)) - 0.4).abs() < 1e-12);
        assert_eq!(target.residual(&target).entries.len(), 3, "nothing is above itself");
    }

    #[test]
    fn every_draw_has_a_possible_token() {
        let some = distribution(&[0.1, 0.0, 0.9]);
        assert_eq!(some.draw(0.0), Some(Token::new(0)));
        assert_eq!(some.draw(0.5), Some(Token::new(2)));
        assert_eq!(some.draw(1.0), Some(Token::new(2)));
        assert_eq!(Distribution::default().draw(0.5), None);
        let mut random = Random::new(7, 1);
        let mean = (0..10_000).map(|_| random.next()).sum::<f64>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
    }
}
