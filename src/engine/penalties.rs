//! Penalties on earlier tokens. Only the logits of these tokens are changed, so the cost does not depend on the
//! vocabulary.

use super::Token;
use super::sampling::Sampling;
use std::collections::{BTreeMap, VecDeque};

/// The penalties of a sampler, and the tokens that they apply to.
#[derive(Clone, Debug)]
pub(super) struct Penalties {
    /// Repetition penalty for the last `last_n` tokens, including the prompt: divides positive logits and multiplies
    /// negative ones, as in Transformers and vLLM.
    repeat: f32,
    last_n: usize,
    recent: VecDeque<Token>,
    /// How often each token is in `recent`.
    seen: BTreeMap<Token, u32>,
    /// Subtracted once from every token of the answer.
    presence: f32,
    /// Subtracted for each occurrence in the answer.
    frequency: f32,
    /// How often each token is in the answer. As in OpenAI's API and vLLM, the prompt does not count.
    answered: BTreeMap<Token, u32>,
    /// Added to the logits of these tokens, before the penalties.
    bias: Vec<(Token, f32)>,
}

impl Penalties {
    /// Starts with the tokens `prompt` before the answer.
    pub(super) fn new(sampling: &Sampling, prompt: &[Token]) -> Self {
        let last_n = if sampling.repeat_penalty == 1.0 { 0 } else { sampling.repeat_last_n as usize };
        let mut penalties = Self {
            repeat: sampling.repeat_penalty,
            last_n,
            recent: VecDeque::new(),
            seen: BTreeMap::new(),
            presence: sampling.presence_penalty,
            frequency: sampling.frequency_penalty,
            answered: BTreeMap::new(),
            bias: Vec::new(),
        };
        prompt[prompt.len().saturating_sub(last_n)..].iter().for_each(|token| penalties.add_recent(*token));
        penalties
    }

    /// Sets the values that are added to the logits of these tokens.
    pub(super) fn set_bias(&mut self, bias: Vec<(Token, f32)>) {
        self.bias = bias;
    }

    /// Returns id and new value of each logit that changes.
    pub(super) fn apply(&self, logits: &[f32]) -> Vec<(usize, f32)> {
        let mut changed = BTreeMap::new();
        let id = |token: &Token| usize::try_from(token.0).unwrap_or(usize::MAX);
        for (token, bias) in &self.bias {
            let Some(logit) = logits.get(id(token)) else { continue };
            *changed.entry(id(token)).or_insert(*logit) += bias;
        }
        for token in self.seen.keys() {
            let Some(logit) = logits.get(id(token)) else { continue };
            let logit = changed.entry(id(token)).or_insert(*logit);
            *logit = if *logit <= 0.0 { *logit * self.repeat } else { *logit / self.repeat };
        }
        for (token, count) in &self.answered {
            let Some(logit) = logits.get(id(token)) else { continue };
            let logit = changed.entry(id(token)).or_insert(*logit);
            *logit -= *count as f32 * self.frequency + self.presence;
        }
        changed.into_iter().collect()
    }

    /// Appends `token` to the answer.
    pub(super) fn accept(&mut self, token: Token) {
        self.add_recent(token);
        if self.presence != 0.0 || self.frequency != 0.0 {
            *self.answered.entry(token).or_default() += 1;
        }
    }

    fn add_recent(&mut self, token: Token) {
        if self.last_n == 0 {
            return;
        }
        self.recent.push_back(token);
        *self.seen.entry(token).or_default() += 1;
        if self.recent.len() > self.last_n
            && let Some(oldest) = self.recent.pop_front()
            && let Some(times) = self.seen.get_mut(&oldest)
        {
            *times -= 1;
            if *times == 0 {
                self.seen.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Penalties, Sampling, Token};

    fn tokens(ids: &[i32]) -> Vec<Token> {
        ids.iter().map(|id| Token::new(*id)).collect()
    }

    #[test]
    fn repeat_penalty_lowers_positive_and_negative_logits() {
        let sampling = Sampling { repeat_penalty: 2.0, repeat_last_n: 3, ..Sampling::greedy() };
        let mut penalties = Penalties::new(&sampling, &tokens(&[4, 0, 1, 1]));
        let logits = [8.0, -3.0, 5.0, 1.0, 7.0];
        assert_eq!(penalties.apply(&logits), [(0, 4.0), (1, -6.0)]);
        penalties.accept(Token::new(2));
        assert_eq!(penalties.apply(&logits), [(1, -6.0), (2, 2.5)], "token 0 is no longer recent");
        let all = Sampling { repeat_last_n: Sampling::REPEAT_LAST_N_MAX, ..sampling };
        assert_eq!(Penalties::new(&all, &tokens(&[4, 0, 1, 1])).apply(&logits).len(), 3);
    }

    #[test]
    fn bias_comes_before_penalties() {
        let sampling = Sampling { repeat_penalty: 2.0, ..Sampling::greedy() };
        let mut penalties = Penalties::new(&sampling, &tokens(&[0]));
        penalties.set_bias(vec![(Token::new(0), 3.0), (Token::new(2), -100.0), (Token::new(9), 1.0)]);
        assert_eq!(penalties.apply(&[1.0, 1.0, 1.0]), [(0, 2.0), (2, -99.0)]);
    }

    #[test]
    fn presence_and_frequency_count_only_the_answer() {
        let sampling = Sampling { presence_penalty: 0.5, frequency_penalty: 0.25, ..Sampling::greedy() };
        let mut penalties = Penalties::new(&sampling, &tokens(&[0, 1]));
        assert_eq!(penalties.apply(&[1.0, 1.0, 1.0]), []);
        tokens(&[2, 0, 2]).into_iter().for_each(|token| penalties.accept(token));
        assert_eq!(penalties.apply(&[1.0, 1.0, 1.0]), [(0, 0.25), (2, 0.0)]);
        let none =
            Penalties::new(&Sampling { repeat_last_n: 0, repeat_penalty: 2.0, ..Sampling::greedy() }, &tokens(&[0]));
        assert_eq!(none.apply(&[1.0]), [], "repeat_last_n is 0");
    }
}
