//! Sampling parameters and their ranges. `sampler.rs` chooses tokens with them.

use crate::error::{Code, Failure};
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
