//! Types of the table of the Tulu family.

use crate::model::hub::RepoId;
use tulu_quantize::checkpoint::Config;

/// The owner of all models of the family.
pub(super) const OWNER: &str = "allenai";

/// How a model was trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ModelKind {
    /// Supervised fine-tuning.
    Sft,
    /// Direct preference optimisation.
    Dpo,
    /// Proximal policy optimisation against a reward model.
    Ppo,
    /// Reinforcement learning with verifiable rewards.
    Rlvr,
    /// Scores answers: it has no output matrix.
    Reward,
    /// Scores tokens: it has no output matrix.
    Value,
    /// Weights that are added to another model.
    Adapter,
}

impl ModelKind {
    /// Returns the name in tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Sft => "SFT",
            Self::Dpo => "DPO",
            Self::Ppo => "PPO",
            Self::Rlvr => "RLVR",
            Self::Reward => "reward",
            Self::Value => "value",
            Self::Adapter => "adapter",
        }
    }

    /// Returns why such a model cannot be converted, and which model to use instead; `None` if it can be converted.
    pub(crate) const fn unsupported(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Sft | Self::Dpo | Self::Ppo | Self::Rlvr => None,
            Self::Reward => Some((
                "is a reward model: it scores answers and has no output matrix to write any",
                "take a policy model, such as tulu-3-8b or tulu-v2.5-ppo-13b-uf-mean",
            )),
            Self::Value => Some((
                "is a value model: it scores tokens and has no output matrix to write any",
                "take the policy model that was trained with it, such as tulu-v2.5-ppo-13b-uf-mean",
            )),
            Self::Adapter => Some((
                "is a QLoRA adapter, not a model",
                "merge it into its base model first (peft's merge_and_unload), then convert the folder",
            )),
        }
    }
}

/// The formats of the weight files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WeightFormat {
    Bin,
    Safetensors,
    Both,
    /// Unknown in this table; read from the listing of the repository.
    Unknown,
}

impl WeightFormat {
    /// Returns the name in tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Bin => ".bin",
            Self::Safetensors => "safetensors",
            Self::Both => "safetensors, .bin",
            Self::Unknown => "?",
        }
    }
}

/// Published scores: their source, and (name of the measure, value) in the order of the source's table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scores {
    pub(crate) source: &'static str,
    pub(crate) values: &'static [(&'static str, f32)],
}

/// A model of the family.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// The short name.
    pub(crate) name: &'static str,
    /// The name of the repository; the same as the short name before Tulu 3.
    pub(crate) repository: &'static str,
    pub(crate) kind: ModelKind,
    /// Size as in the name, such as `13B`.
    pub(crate) size: &'static str,
    /// The configuration of its architecture.
    pub(crate) config: &'static Config,
    /// Training context in tokens; `None` if unknown.
    pub(crate) n_ctx: Option<u32>,
    pub(crate) licence: &'static str,
    pub(crate) weights: WeightFormat,
    pub(crate) scores: Option<Scores>,
}

impl Entry {
    /// Returns whether `name` is its short name or the name of its repository, in any case: the Hub ignores case too.
    pub(super) fn is_named(&self, name: &str) -> bool {
        [self.name, self.repository].iter().any(|known| known.eq_ignore_ascii_case(name))
    }

    /// Its repository on the Hub.
    pub(crate) fn repo(&self, revision: Option<&str>) -> RepoId {
        let revision = revision.map(str::to_owned);
        RepoId { owner: OWNER.to_owned(), name: self.repository.to_owned(), revision }
    }
}
