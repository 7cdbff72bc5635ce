//! Sampling parameters and their ranges. `sampler.rs` chooses tokens with them.

use crate::error::{Code, Failure};
use std::hash::{BuildHasher as _, Hasher as _};

/// Version of the sampler. It is increased when the same parameters and seed give other answers than before, so that
/// the new version of the program does not resume a batch of the old one. 2: temperature before top-p and min-p.
pub(crate) const SAMPLING_VERSION: u32 = 2;

/// Below this temperature decoding is greedy, as in vLLM: logits divided by a smaller value could become infinite.
const GREEDY_BELOW: f32 = 1e-5;

/// How the next token is chosen. [`Sampling::check`] refuses values that are out of range.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sampling {
    /// 0 (and everything below 0.00001) is greedy; 1 is the distribution of the model.
    pub(crate) temperature: f32,
    /// Keep the k most likely tokens; 0 keeps all.
    pub(crate) top_k: u32,
    /// Keep the smallest set of tokens whose probabilities add up to this; 1 keeps all.
    pub(crate) top_p: f32,
    /// Keep tokens whose probability is at least this fraction of the most likely one's; 0 keeps all.
    pub(crate) min_p: f32,
    /// Repetition penalty for recent tokens: divides positive logits and multiplies negative ones; 1 disables it.
    pub(crate) repeat_penalty: f32,
    /// Number of recent tokens that the repetition penalty applies to.
    pub(crate) repeat_last_n: u32,
    /// Subtracted from the logit of every token that is already in the answer; 0 disables it.
    pub(crate) presence_penalty: f32,
    /// Subtracted once for every occurrence of the token in the answer; 0 disables it.
    pub(crate) frequency_penalty: f32,
    /// Random seed. The same seed gives the same answer as long as the logits are bit-identical.
    pub(crate) seed: u32,
}

impl Sampling {
    /// Maximum of `repeat_last_n`: more than any context size of the Tulu family.
    pub(crate) const REPEAT_LAST_N_MAX: u32 = 65_536;

    /// The example in Tulu's model card, with a random seed.
    pub(crate) fn model_card_defaults() -> Self {
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

    /// Greedy decoding.
    pub(crate) fn greedy() -> Self {
        Self { temperature: 0.0, seed: 0, ..Self::model_card_defaults() }
    }

    /// Valid values of `repeat_penalty`; with others, logits could overflow.
    pub(crate) const REPEAT_PENALTY: std::ops::RangeInclusive<f32> = 0.01..=100.0;

    /// Returns whether decoding is greedy.
    pub(crate) fn is_greedy(&self) -> bool {
        self.temperature < GREEDY_BELOW
    }

    /// Refuses values that are out of range (`SAMPLING`).
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
            // In llama.cpp, this value means a random seed.
            return Err(Failure::input(Code::Sampling, "the seed is 4294967295", "give a smaller one"));
        }
        Ok(self)
    }
}

/// Returns a random seed.
pub(crate) fn random_seed() -> u32 {
    let bits = std::hash::RandomState::new().build_hasher().finish();
    u32::try_from(bits % u64::from(u32::MAX)).unwrap_or(0)
}
