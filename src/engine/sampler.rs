//! Chooses a token from logits. Penalties come first (`penalties.rs`), then the warpers of Transformers, in its order:
//! temperature, top-k, top-p, min-p (`_get_logits_processor` of Transformers 4.57 and 5; vLLM has the same order,
//! except that it applies min-p before top-k). The last sampler draws the token. The parameters are in `sampling.rs`.

use super::Token;
use super::distribution::{Distribution, Random};
use super::grammar::Grammar;
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
    /// `None`: greedy.
    chain: Option<LlamaSampler>,
    /// True without top-k.
    keeps_all: bool,
    /// The grammar that the answer follows.
    grammar: Option<Grammar>,
    /// The chain without the draw.
    warpers: Option<LlamaSampler>,
    /// Draws proposed tokens, and decides whether they are accepted.
    random: Random,
    n_chosen: u64,
}

/// Streams of random numbers other than that of llama.cpp's draw.
const ACCEPT: u64 = 1;
const PROPOSE: u64 = 1 << 32;

impl Sampler {
    /// `prompt`: the tokens before the answer; the repetition penalty applies to the last of them.
    pub(crate) fn new(sampling: &Sampling, prompt: &[Token]) -> Self {
        let draws = !sampling.is_greedy();
        Self {
            sampling: sampling.clone(),
            penalties: Penalties::new(sampling, prompt),
            chain: draws.then(|| LlamaSampler::chain([warpers(sampling), LlamaSampler::dist(sampling.seed)], true)),
            keeps_all: sampling.top_k == 0,
            grammar: None,
            warpers: draws.then(|| warpers(sampling)),
            random: Random::new(sampling.seed, ACCEPT),
            n_chosen: 0,
        }
    }

    /// Returns a sampler that proposes the next tokens of this answer, from the logits of another model.
    pub(crate) fn proposer(&self) -> Self {
        Self {
            penalties: self.penalties.clone(),
            random: Random::new(self.sampling.seed, PROPOSE + self.n_chosen),
            ..Self::new(&self.sampling, &[])
        }
    }

    /// Adds these values to the logits of their tokens, before the penalties.
    pub(crate) fn with_bias(mut self, bias: Vec<(Token, f32)>) -> Self {
        self.penalties.set_bias(bias);
        self
    }

    /// Lets the answer follow `grammar`.
    pub(crate) fn with_grammar(mut self, grammar: Option<Grammar>) -> Self {
        self.grammar = grammar;
        self
    }

    /// Chooses and stores the next token from the logits of the whole vocabulary. Returns `None` if a logit is NaN.
    pub(crate) fn choose(&mut self, logits: &[f32]) -> Option<Token> {
        let changed = self.changed(logits)?;
        let mut token = match &mut self.chain {
            None => most_likely(logits, &changed),
            Some(chain) => {
                let mut all = token_data(logits, &changed);
                chain.apply(&mut all);
                all.selected_token()
            }
        }?;
        if let Some(grammar) = &mut self.grammar {
            // The choice without the grammar is mostly allowed; only otherwise all tokens are tested.
            if !grammar.allows(token) {
                token = allowed(grammar, self.chain.as_mut(), logits, &changed);
            }
            if !grammar.accept(token) {
                token = grammar.end();
            }
        }
        self.store(token)
    }

    /// Like [`Self::choose`], if `proposed` was drawn from `proposal`: accepts it with the probability p / q, at most 1,
    /// and otherwise draws from what p has more than q. So the token has the same distribution as without a proposal.
    pub(crate) fn choose_after(&mut self, logits: &[f32], proposed: Token, proposal: &Distribution) -> Option<Token> {
        // With a grammar, the plain choice is exact too, and accepts the token less often.
        if self.warpers.is_none() || self.grammar.is_some() {
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
        let warpers = self.warpers.as_mut()?;
        let mut all = token_data(logits, &changed);
        warpers.apply(&mut all);
        Some(Distribution::of_logits(all.data.iter().map(|data| (data.id(), data.logit()))))
    }

    fn store(&mut self, token: Token) -> Option<Token> {
        self.penalties.accept(token);
        self.n_chosen += 1;
        Some(token)
    }

    /// Returns the approximate time of one choice among `n_vocab` tokens, in microseconds. Without top-k, much of the
    /// vocabulary is sorted.
    pub(crate) fn cost(&self, n_vocab: usize) -> u32 {
        let thousands = u32::try_from(n_vocab / 1000).unwrap_or(u32::MAX);
        let grammar = if self.grammar.is_some() { 10.0 } else { 0.0 };
        let per_thousand = grammar
            + match (&self.chain, self.keeps_all) {
                (None, _) => 0.6,
                (Some(_), false) => 2.0,
                (Some(_), true) => 10.0,
            };
        (f64::from(thousands) * per_thousand) as u32
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

/// Returns the logits as llama.cpp takes them. `changed` replaces some of them.
fn token_data(logits: &[f32], changed: &[(usize, f32)]) -> LlamaTokenDataArray {
    let data = |(id, logit): (i32, &f32)| LlamaTokenData::new(Token::new(id), *logit, 0.0);
    let mut all = LlamaTokenDataArray::from_iter((0..).zip(logits).map(data), false);
    for (id, logit) in changed {
        all.data[*id].set_logit(*logit);
    }
    all
}

/// Chooses among the tokens that `grammar` allows; ends the answer if there are none.
fn allowed(grammar: &mut Grammar, chain: Option<&mut LlamaSampler>, logits: &[f32], changed: &[(usize, f32)]) -> Token {
    let mut all = token_data(logits, changed);
    grammar.mask(&mut all);
    if !all.data.iter().any(|data| data.logit() > f32::NEG_INFINITY) {
        return grammar.end();
    }
    let chosen = match chain {
        Some(chain) => {
            chain.apply(&mut all);
            all.selected_token()
        }
        None => {
            let logits: Vec<f32> = all.data.iter().map(LlamaTokenData::logit).collect();
            most_likely(&logits, &[])
        }
    };
    chosen.unwrap_or(grammar.end())
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
