//! Chooses a token from logits. Penalties come first (`penalties.rs`), then the warpers of Transformers, in its order:
//! temperature, top-k, top-p, min-p (`_get_logits_processor` of Transformers 4.57 and 5; vLLM has the same order,
//! except that it applies min-p before top-k). The last sampler draws the token. The parameters are in `sampling.rs`.

use super::Token;
use super::grammar::Grammar;
use super::penalties::Penalties;
use super::sampling::Sampling;
use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;

/// Chooses the tokens of one answer; keeps the earlier tokens and the state of the random numbers.
#[derive(Debug)]
pub(crate) struct Sampler {
    penalties: Penalties,
    /// `None`: greedy.
    chain: Option<LlamaSampler>,
    /// True without top-k.
    keeps_all: bool,
    /// The grammar that the answer follows.
    grammar: Option<Grammar>,
}

impl Sampler {
    /// `prompt`: the tokens before the answer; the repetition penalty applies to the last of them.
    pub(crate) fn new(sampling: &Sampling, prompt: &[Token]) -> Self {
        let chain = || {
            let top_k = i32::try_from(sampling.top_k).unwrap_or(i32::MAX);
            let chain = [
                // Top-k before temperature is faster, and gives the same result: dividing all logits does not change
                // their order.
                LlamaSampler::top_k(top_k),
                LlamaSampler::temp(sampling.temperature),
                LlamaSampler::top_p(sampling.top_p, 1),
                LlamaSampler::min_p(sampling.min_p, 1),
                LlamaSampler::dist(sampling.seed),
            ];
            LlamaSampler::chain(chain, true)
        };
        let chain = (!sampling.is_greedy()).then(chain);
        Self { penalties: Penalties::new(sampling, prompt), chain, keeps_all: sampling.top_k == 0, grammar: None }
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
        if logits.iter().any(|logit| logit.is_nan()) {
            return None;
        }
        let changed = self.penalties.apply(logits);
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
        self.penalties.accept(token);
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
