//! Sampling: its checked parameters and the chain of samplers made of them. The only constructor ends the chain with a
//! choice (`greedy` or `dist`), because llama.cpp aborts on a chain that chooses nothing.

use super::Token;
use crate::error::Failure;
use llama_cpp_2::sampling::LlamaSampler;
use std::hash::{BuildHasher as _, Hasher as _};

/// How the next token is chosen. Fields that are out of range are refused by [`Sampling::check`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sampling {
    /// 0 takes the likeliest token always; 1 is the model's own distribution.
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
    /// The same seed, prompt and batch give the same answer.
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

    /// Refuses what llama.cpp would turn into nonsense.
    pub(crate) fn check(self) -> Result<Self, Failure> {
        let range = |name: &str, value: f32, ok: bool, range: &str| {
            if ok && value.is_finite() {
                return Ok(());
            }
            Err(Failure::input("SAMPLING", format!("{name} is {value}"), format!("give a number {range}")))
        };
        range("temperature", self.temperature, self.temperature >= 0.0, "from 0 up")?;
        range("top_p", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0, "above 0, up to 1")?;
        range("min_p", self.min_p, (0.0..=1.0).contains(&self.min_p), "from 0 to 1")?;
        range("repeat_penalty", self.repeat_penalty, self.repeat_penalty > 0.0, "above 0")?;
        let both = [("presence_penalty", self.presence_penalty), ("frequency_penalty", self.frequency_penalty)];
        for (name, value) in both {
            range(name, value, (-2.0..=2.0).contains(&value), "from -2 to 2")?;
        }
        if self.repeat_last_n > Self::REPEAT_LAST_N_MAX {
            // llama.cpp reserves this many tokens at once.
            let fix = format!("give at most {}", Self::REPEAT_LAST_N_MAX);
            return Err(Failure::input("SAMPLING", format!("repeat_last_n is {}", self.repeat_last_n), fix));
        }
        if self.seed == u32::MAX {
            // llama.cpp takes this one as "choose a seed yourself".
            return Err(Failure::input("SAMPLING", "the seed is 4294967295", "give a smaller one"));
        }
        Ok(self)
    }
}

/// A seed that differs from run to run.
pub(crate) fn random_seed() -> u32 {
    let bits = std::hash::RandomState::new().build_hasher().finish();
    u32::try_from(bits % u64::from(u32::MAX)).unwrap_or(0)
}

/// A chain of samplers with its state: the tokens seen lately and the random numbers.
#[derive(Debug)]
pub(crate) struct Sampler(pub(super) LlamaSampler);

impl Sampler {
    /// The chain in llama.cpp's order. `prompt`: what the answer follows; its end counts as seen lately.
    pub(crate) fn new(sampling: &Sampling, n_vocab: i32, prompt: &[Token]) -> Self {
        let Sampling { temperature, top_k, top_p, min_p, repeat_penalty, repeat_last_n, seed, .. } = *sampling;
        let Sampling { presence_penalty, frequency_penalty, .. } = *sampling;
        let last_n = i32::try_from(repeat_last_n).unwrap_or(i32::MAX);
        let mut chain = Vec::new();
        if repeat_penalty != 1.0 && last_n > 0 {
            let mut penalties = LlamaSampler::penalties(n_vocab, last_n, repeat_penalty, 0.0, 0.0);
            penalties.accept_many(&prompt[prompt.len().saturating_sub(repeat_last_n as usize)..]);
            chain.push(penalties);
        }
        if presence_penalty != 0.0 || frequency_penalty != 0.0 {
            // As OpenAI and vLLM count: all of the answer, nothing of the prompt.
            let all = Sampling::REPEAT_LAST_N_MAX as i32;
            chain.push(LlamaSampler::penalties(n_vocab, all, 1.0, frequency_penalty, presence_penalty));
        }
        if temperature == 0.0 {
            chain.push(LlamaSampler::greedy());
        } else {
            chain.push(LlamaSampler::top_k(i32::try_from(top_k).unwrap_or(i32::MAX)));
            chain.push(LlamaSampler::top_p(top_p, 1));
            chain.push(LlamaSampler::min_p(min_p, 1));
            chain.push(LlamaSampler::temp(temperature));
            chain.push(LlamaSampler::dist(seed));
        }
        Self(LlamaSampler::chain(chain, true))
    }
}

#[cfg(test)]
mod tests {
    use super::Sampling;

    #[test]
    fn a_parameter_out_of_range_is_refused() {
        assert!(Sampling::card().check().is_ok());
        assert!(Sampling::greedy().check().is_ok());
        let wrong = [
            Sampling { temperature: f32::NAN, ..Sampling::card() },
            Sampling { temperature: f32::INFINITY, ..Sampling::card() },
            Sampling { temperature: -0.1, ..Sampling::card() },
            Sampling { top_p: 0.0, ..Sampling::card() },
            Sampling { top_p: 1.1, ..Sampling::card() },
            Sampling { min_p: -0.1, ..Sampling::card() },
            Sampling { repeat_penalty: 0.0, ..Sampling::card() },
            Sampling { presence_penalty: 2.5, ..Sampling::card() },
            Sampling { frequency_penalty: f32::NAN, ..Sampling::card() },
            Sampling { seed: u32::MAX, ..Sampling::card() },
        ];
        for sampling in wrong {
            assert!(sampling.clone().check().is_err(), "{sampling:?}");
        }
    }
}
