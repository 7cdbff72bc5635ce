//! The Tulu family: what a short name stands for. The facts are in `family.rs`; here they are looked up, and a name that
//! is not among them gets the nearest one suggested.

mod family;

use super::hub::RepoId;
use tulu_quantize::checkpoint::Config;

/// How a model was made, and whether it writes text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Supervised fine-tuning.
    Sft,
    /// Direct preference optimisation.
    Dpo,
    /// Proximal policy optimisation against a reward model.
    Ppo,
    /// Scores answers: it has no output matrix.
    Reward,
    /// Scores tokens: it has no output matrix.
    Value,
    /// Weights to be added to another model.
    Adapter,
}

impl Kind {
    /// For tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Sft => "SFT",
            Self::Dpo => "DPO",
            Self::Ppo => "PPO",
            Self::Reward => "reward",
            Self::Value => "value",
            Self::Adapter => "adapter",
        }
    }

    /// Why such a model cannot be converted, and what to do; `None` when it can.
    pub(crate) const fn refused(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Sft | Self::Dpo | Self::Ppo => None,
            Self::Reward => Some((
                "is a reward model: it scores answers and has no output matrix to write any",
                "take a policy model, such as tulu-v2.5-ppo-13b-uf-mean",
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

/// Files that the weights are in, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weights {
    Bin,
    Safetensors,
    Both,
    /// Not established: the repository tells.
    Unknown,
}

impl Weights {
    /// For tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Bin => ".bin",
            Self::Safetensors => "safetensors",
            Self::Both => "safetensors, .bin",
            Self::Unknown => "?",
        }
    }
}

/// Published results: where they are from, and (name of the measure, value) in the order of that table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scores {
    pub(crate) source: &'static str,
    pub(crate) values: &'static [(&'static str, f32)],
}

/// A model of the family.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// The repository's name, which is also the short name.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// `13B`.
    pub(crate) size: &'static str,
    /// The numbers of its architecture.
    pub(crate) shape: &'static Config,
    /// Tokens it was trained for; `None` where that is not established.
    pub(crate) n_ctx: Option<u32>,
    pub(crate) licence: &'static str,
    pub(crate) weights: Weights,
    pub(crate) scores: Option<Scores>,
}

impl Entry {
    /// Its repository on the Hub.
    pub(crate) fn repo(&self, revision: Option<&str>) -> RepoId {
        let revision = revision.map(str::to_owned);
        RepoId { owner: family::OWNER.to_owned(), name: self.name.to_owned(), revision }
    }
}

/// Every model, in the order they are shown.
pub(crate) fn all() -> impl Iterator<Item = Entry> {
    family::all()
}

/// The model with this short name, any case.
pub(crate) fn find(name: &str) -> Option<Entry> {
    all().find(|entry| entry.name.eq_ignore_ascii_case(name))
}

/// The model of this repository.
pub(crate) fn of_repo(repo: &RepoId) -> Option<Entry> {
    // the Hub finds a repository in any case too
    find(&repo.name).filter(|_| repo.owner.eq_ignore_ascii_case(family::OWNER))
}

/// The name that was most likely meant by `typed`, if one is near.
pub(crate) fn nearest(typed: &str) -> Option<&'static str> {
    let typed = typed.to_lowercase();
    let typed = typed.rsplit_once('/').map_or(typed.as_str(), |(_, name)| name);
    let distance = |name: &str| {
        let sorted = strsim::damerau_levenshtein(&in_order(name), &in_order(typed));
        strsim::damerau_levenshtein(name, typed).min(sorted + 1)
    };
    let (best, name) = all().map(|entry| (distance(entry.name), entry.name)).min_by_key(|(distance, _)| *distance)?;
    (best <= (typed.len() / 4).max(2)).then_some(name)
}

/// The parts in alphabetical order: `tulu-2-13b-dpo` is meant for `tulu-2-dpo-13b`.
fn in_order(name: &str) -> String {
    let mut parts: Vec<&str> = name.split(['-', '_', ' ']).collect();
    parts.sort_unstable();
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::{Kind, all, find, nearest};
    use tulu_quantize::size_estimate;

    #[test]
    fn the_family_is_complete_and_its_sizes_are_the_published_ones() {
        let count = |kind: Kind, part: &str| all().filter(|e| e.kind == kind && e.name.contains(part)).count();
        assert_eq!((count(Kind::Dpo, "v2.5"), count(Kind::Ppo, "v2.5")), (17, 9));
        assert_eq!((count(Kind::Sft, "tulu-2"), count(Kind::Dpo, "tulu-2-")), (6, 3));
        // published parameter counts
        for (name, params) in [
            ("tulu-2-7b", 6_738_415_616_u64),
            ("tulu-2-dpo-13b", 13_015_864_320),
            ("tulu-2-70b", 68_976_648_192),
            ("tulu-v2.5-ppo-13b-uf-mean", 13_015_864_320),
        ] {
            assert_eq!(size_estimate::params(find(name).unwrap().shape), params, "{name}");
        }
        let mut names: Vec<&str> = all().map(|e| e.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all().count(), "a name stands twice");
    }

    #[test]
    fn names_typed_wrong_are_recognised() {
        for (typed, meant) in [
            ("tulu-2-13b-dpo", "tulu-2-dpo-13b"),
            ("tulu2-13b", "tulu-2-13b"),
            ("Tulu-2-DPO-7b ", "tulu-2-dpo-7b"),
            ("allenai/tulu-2-dpo-13", "tulu-2-dpo-13b"),
            ("tulu-2.5-dpo-13b-uf-mean", "tulu-v2.5-dpo-13b-uf-mean"),
            ("tulu-v2.5-dpo-13b-alpacafarm-gpt4", "tulu-v2.5-dpo-13b-alpacafarm-gpt4-pref"),
        ] {
            assert_eq!(nearest(typed), Some(meant), "{typed}");
        }
        for typed in ["mistral-7b-instruct", "x", "models/my-file"] {
            assert_eq!(nearest(typed), None, "{typed}");
        }
    }
}
