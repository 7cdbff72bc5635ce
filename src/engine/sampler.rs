//! Chooses a token from logits. Penalties come first (`penalties.rs`), then the warpers of Transformers, in its order:
//! temperature, top-k, top-p, min-p (`_get_logits_processor` of Transformers 4.57 and 5; vLLM has the same order,
//! except that it applies min-p before top-k). The last sampler draws the token. The parameters are in `sampling.rs`.

use super::Token;
use super::distribution::{Distribution, Random};
use super::penalties::Penalties;
use super::sampling::Sampling;
use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;

/// Chooses the tokens of one answer; keeps the earlier tokens and the state of the random numbers.
#[derive(Debug)]
pub(crate) struct Sampler {
    sampling: Sampling,
    penalties: Penalties,
    /// Temperature, top-k, top-p, min-p, and the draw. `None`: greedy.
    warpers: Option<(LlamaSampler, LlamaSampler)>,
    /// Decides whether proposed tokens are accepted.
    random: Random,
    n_chosen: u64,
}

/// Streams of random numbers other than that of llama.cpp's draw.
const ACCEPT: u64 = 1;
const PROPOSE: u64 = 1 << 32;

impl Sampler {
    /// `prompt`: the tokens before the answer; the repetition penalty applies to the last of them.
    pub(crate) fn new(sampling: &Sampling, prompt: &[Token]) -> Self {
        Self {
            sampling: sampling.clone(),
            penalties: Penalties::new(sampling, prompt),
            warpers: (!sampling.is_greedy()).then(|| (warpers(sampling), LlamaSampler::dist(sampling.seed))),
            random: Random::new(sampling.seed, ACCEPT),
            n_chosen: 0,
        }
    }

    /// Returns a sampler that proposes the next tokens of this answer, from the logits of another model.
    pub(crate) fn proposer(&self) -> Self {
        Self {
            sampling: self.sampling.clone(),
            penalties: self.penalties.clone(),
            warpers: self.warpers.as_ref().map(|_| (warpers(&self.sampling), LlamaSampler::dist(self.sampling.seed))),
            random: Random::new(self.sampling.seed, PROPOSE + self.n_chosen),
            n_chosen: self.n_chosen,
        }
    }

    /// Adds these values to the logits of their tokens, before the penalties.
    pub(crate) fn with_bias(mut self, bias: Vec<(Token, f32)>) -> Self {
        self.penalties.set_bias(bias);
        self
    }

    /// Chooses and stores the next token from the logits of the whole vocabulary. Returns `None` if a logit is NaN.
    pub(crate) fn choose(&mut self, logits: &[f32]) -> Option<Token> {
        let changed = self.changed(logits)?;
        let token = match &mut self.warpers {
            None => most_likely(logits, &changed),
            Some((warpers, draw)) => {
                let mut all = candidates(logits, &changed);
                warpers.apply(&mut all);
                draw.apply(&mut all);
                all.selected_token()
            }
        }?;
        self.store(token)
    }

    /// Like [`Self::choose`], if `proposed` was drawn from `proposal`: accepts it with the probability p / q, at most 1,
    /// and otherwise draws from what p has more than q. So the token has the same distribution as without a proposal.
    pub(crate) fn choose_after(&mut self, logits: &[f32], proposed: Token, proposal: &Distribution) -> Option<Token> {
        if self.warpers.is_none() {
            return self.choose(logits);
        }
        let target = self.distribution(logits)?;
        let accepted = self.random.next() * proposal.probability(proposed) < target.probability(proposed);
        let token = if accepted { proposed } else { target.residual(proposal).draw(self.random.next())? };
        self.store(token)
    }

    /// Draws and stores a token to propose, and returns it with its distribution. Returns `None` if the most likely token
    /// has a smaller probability than `least`, or if a logit is NaN.
    pub(crate) fn propose(&mut self, logits: &[f32], least: f64) -> Option<(Token, Distribution)> {
        // The decision to propose must not depend on the drawn token: it would change the distribution.
        let (token, proposal) = if self.warpers.is_none() {
            let changed = self.changed(logits)?;
            let ids = (0..).map(Token::new).zip(logits.iter().copied());
            let token = most_likely(logits, &changed)?;
            if Distribution::of_logits(ids).probability(token) < least {
                return None;
            }
            (token, Distribution::only(token))
        } else {
            let proposal = self.distribution(logits)?;
            if proposal.largest() < least {
                return None;
            }
            (proposal.draw(self.random.next())?, proposal)
        };
        self.store(token)?;
        Some((token, proposal))
    }

    /// Returns the logits that penalties change; `None` if a logit is NaN.
    fn changed(&self, logits: &[f32]) -> Option<Vec<(usize, f32)>> {
        (!logits.iter().any(|logit| logit.is_nan())).then(|| self.penalties.apply(logits))
    }

    /// Returns the distribution of the next token, which is not greedy.
    fn distribution(&mut self, logits: &[f32]) -> Option<Distribution> {
        let changed = self.changed(logits)?;
        let (warpers, _) = self.warpers.as_mut()?;
        let mut all = candidates(logits, &changed);
        warpers.apply(&mut all);
        Some(Distribution::of_logits(all.data.iter().map(|data| (data.id(), data.logit()))))
    }

    fn store(&mut self, token: Token) -> Option<Token> {
        self.penalties.accept(token);
        self.n_chosen += 1;
        Some(token)
    }

    /// Returns the approximate time of one choice in microseconds, for a vocabulary of 32,000. Without top-k, much of
    /// the vocabulary is sorted.
    pub(crate) fn cost(&self) -> u32 {
        match (&self.warpers, self.sampling.top_k) {
            (None, _) => 20,
            (Some(_), 1..) => 60,
            (Some(_), 0) => 300,
        }
    }
}

/// The warpers of Transformers, in its order.
fn warpers(sampling: &Sampling) -> LlamaSampler {
    let top_k = i32::try_from(sampling.top_k).unwrap_or(i32::MAX);
    let chain = [
        // Top-k before temperature is faster, and gives the same result: dividing all logits does not change their
        // order.
        LlamaSampler::top_k(top_k),
        LlamaSampler::temp(sampling.temperature),
        LlamaSampler::top_p(sampling.top_p, 1),
        LlamaSampler::min_p(sampling.min_p, 1),
    ];
    LlamaSampler::chain(chain, true)
}

/// All tokens with their logits. `changed` replaces some logits.
fn candidates(logits: &[f32], changed: &[(usize, f32)]) -> LlamaTokenDataArray {
    let data = |(id, logit): (i32, &f32)| LlamaTokenData::new(Token::new(id), *logit, 0.0);
    let mut all = LlamaTokenDataArray::from_iter((0..).zip(logits).map(data), false);
    for (id, logit) in changed {
        all.data[*id].set_logit(*logit);
    }
    all
}

/// Returns the token with the largest logit; if several are equal, the first. `changed` replaces some logits.
fn most_likely(logits: &[f32], changed: &[(usize, f32)]) -> Option<Token> {
    let largest = |logits: &[f32]| {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        logits.iter().position(|logit| *logit == max)
    };
    let best = if changed.is_empty() {
        largest(logits)
    } else {
        let mut copy = logits.to_vec();
        changed.iter().for_each(|(id, logit)| copy[*id] = *logit);
        largest(&copy)
    };
    best.and_then(|id| i32::try_from(id).ok()).map(Token::new)
}

#[cfg(test)]
mod tests;
