//! Sampling: its checked parameters, and the choice of a token from logits. Penalties come first (`penalties.rs`), then what
//! Transformers calls warpers, in its order: temperature, top-k, top-p, min-p (`_get_logits_processor` of Transformers 4.57
//! and 5; vLLM has them in this order too, but for min-p, which it applies before top-k). The last one draws.

use super::Token;
use super::penalties::Penalties;
use crate::error::{Code, Failure};
use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;
use std::hash::{BuildHasher as _, Hasher as _};

/// Goes up when the same parameters and seed give other answers than before, so that a batch is not gone on with by a
/// program that answers differently. 2: temperature before top-p and min-p.
pub(crate) const SAMPLING_VERSION: u32 = 2;

/// Below this temperature the likeliest token is taken, as in vLLM: logits divided by less would become infinite.
const GREEDY_BELOW: f32 = 1e-5;

/// How the next token is chosen. Fields that are out of range are refused by [`Sampling::check`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sampling {
    /// 0 (and everything below 0.00001) takes the likeliest token always; 1 is the model's own distribution.
    pub(crate) temperature: f32,
    /// Keep the k likeliest tokens; 0 keeps all.
    pub(crate) top_k: u32,
    /// Keep the likeliest tokens that hold this much probability together; 1 keeps all.
    pub(crate) top_p: f32,
    /// Keep tokens at least this likely in relation to the likeliest; 0 keeps all.
    pub(crate) min_p: f32,
    /// Divides the logits of tokens seen lately; 1 does nothing.
    pub(crate) repeat_penalty: f32,
    /// How many of the last tokens count as seen lately.
    pub(crate) repeat_last_n: u32,
    /// Subtracted from the logit of every token that the answer has already; 0 does nothing.
    pub(crate) presence_penalty: f32,
    /// Subtracted once for every time that the answer has the token already; 0 does nothing.
    pub(crate) frequency_penalty: f32,
    /// Where the random numbers begin. The same seed gives the same answer as long as the logits are the same to the last bit.
    pub(crate) seed: u32,
}

impl Sampling {
    /// Tokens that can count as seen lately: more than any window of the family.
    pub(crate) const REPEAT_LAST_N_MAX: u32 = 65_536;

    /// The example of Tulu's model card, with a seed of its own each time.
    pub(crate) fn card() -> Self {
        Self {
            temperature: 0.7,
            top_k: 50,
            top_p: 0.95,
            min_p: 0.0,
            repeat_penalty: 1.0,
            repeat_last_n: 64,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: random_seed(),
        }
    }

    /// The likeliest token always.
    pub(crate) fn greedy() -> Self {
        Self { temperature: 0.0, seed: 0, ..Self::card() }
    }

    /// What a penalty that divides may be; beyond, logits overflow.
    pub(crate) const REPEAT_PENALTY: std::ops::RangeInclusive<f32> = 0.01..=100.0;

    /// Whether the likeliest token is taken always: nothing is left to chance.
    pub(crate) fn is_greedy(&self) -> bool {
        self.temperature < GREEDY_BELOW
    }

    /// Refuses what would give nonsense.
    pub(crate) fn check(self) -> Result<Self, Failure> {
        let range = |name: &str, value: f32, ok: bool, range: &str| {
            if ok && value.is_finite() {
                return Ok(());
            }
            Err(Failure::input(Code::Sampling, format!("{name} is {value}"), format!("give a number {range}")))
        };
        range("temperature", self.temperature, self.temperature >= 0.0, "from 0 up")?;
        range("top_p", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0, "above 0, up to 1")?;
        range("min_p", self.min_p, (0.0..=1.0).contains(&self.min_p), "from 0 to 1")?;
        let sane = Self::REPEAT_PENALTY.contains(&self.repeat_penalty);
        range("repeat_penalty", self.repeat_penalty, sane, "from 0.01 to 100")?;
        let both = [("presence_penalty", self.presence_penalty), ("frequency_penalty", self.frequency_penalty)];
        for (name, value) in both {
            range(name, value, (-2.0..=2.0).contains(&value), "from -2 to 2")?;
        }
        if self.repeat_last_n > Self::REPEAT_LAST_N_MAX {
            let fix = format!("give at most {}", Self::REPEAT_LAST_N_MAX);
            return Err(Failure::input(Code::Sampling, format!("repeat_last_n is {}", self.repeat_last_n), fix));
        }
        if self.seed == u32::MAX {
            // llama.cpp takes this one as "choose a seed yourself".
            return Err(Failure::input(Code::Sampling, "the seed is 4294967295", "give a smaller one"));
        }
        Ok(self)
    }
}

/// A seed that differs from run to run.
pub(crate) fn random_seed() -> u32 {
    let bits = std::hash::RandomState::new().build_hasher().finish();
    u32::try_from(bits % u64::from(u32::MAX)).unwrap_or(0)
}

/// Chooses tokens; knows which were chosen before and where its random numbers are.
#[derive(Debug)]
pub(crate) struct Sampler {
    penalties: Penalties,
    /// `None`: the likeliest token.
    chain: Option<LlamaSampler>,
    /// Whether there is no top-k.
    keeps_all: bool,
}

impl Sampler {
    /// `prompt`: what the answer follows; its end counts as seen lately.
    pub(crate) fn new(sampling: &Sampling, prompt: &[Token]) -> Self {
        let chain = || {
            let top_k = i32::try_from(sampling.top_k).unwrap_or(i32::MAX);
            let chain = [
                // Dividing all logits by the same number does not change which are the largest, and k are less work.
                LlamaSampler::top_k(top_k),
                LlamaSampler::temp(sampling.temperature),
                LlamaSampler::top_p(sampling.top_p, 1),
                LlamaSampler::min_p(sampling.min_p, 1),
                LlamaSampler::dist(sampling.seed),
            ];
            LlamaSampler::chain(chain, true)
        };
        let chain = (!sampling.is_greedy()).then(chain);
        Self { penalties: Penalties::new(sampling, prompt), chain, keeps_all: sampling.top_k == 0 }
    }

    /// The token that follows, given the logits of all tokens, and remembers it. `None` when a logit is not a number.
    pub(crate) fn choose(&mut self, logits: &[f32]) -> Option<Token> {
        if logits.iter().any(|logit| logit.is_nan()) {
            return None;
        }
        let changed = self.penalties.apply(logits);
        let token = match &mut self.chain {
            None => likeliest(logits, &changed),
            Some(chain) => {
                let data = |(id, logit): (i32, &f32)| LlamaTokenData::new(Token::new(id), *logit, 0.0);
                let mut all = LlamaTokenDataArray::from_iter((0..).zip(logits).map(data), false);
                for (id, logit) in &changed {
                    all.data[*id].set_logit(*logit);
                }
                chain.apply(&mut all);
                all.selected_token()
            }
        }?;
        self.penalties.accept(token);
        Some(token)
    }

    /// About how long a choice takes, in microseconds, with 32,000 tokens. Without top-k, much of the vocabulary is sorted.
    pub(crate) fn cost(&self) -> u32 {
        match (&self.chain, self.keeps_all) {
            (None, _) => 20,
            (Some(_), false) => 60,
            (Some(_), true) => 300,
        }
    }
}

/// The first of the largest logits, of which some were `changed`.
fn likeliest(logits: &[f32], changed: &[(usize, f32)]) -> Option<Token> {
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
