//! Looks up models of the Tulu family by name, and suggests similar names. The tables are in `family.rs` (Llama 2) and
//! `llama3.rs`, their types in `entry.rs`.

mod entry;
mod family;
mod llama3;
mod shape;

pub(crate) use entry::{Entry, ModelKind};

use super::hub::RepoId;
use entry::OWNER;

/// Returns all models, in the order of the table.
pub(crate) fn all() -> impl Iterator<Item = Entry> {
    family::all().chain(llama3::all())
}

/// Returns the model with this short name or repository name, in any case.
pub(crate) fn find(name: &str) -> Option<Entry> {
    all().find(|entry| entry.is_named(name))
}

/// Returns the model of a repository.
pub(crate) fn find_repo(repo: &RepoId) -> Option<Entry> {
    find(&repo.name)
        .filter(|entry| repo.owner.eq_ignore_ascii_case(OWNER) && entry.repository.eq_ignore_ascii_case(&repo.name))
}

/// Returns the short name of a model that ollama's library calls `tulu3`, such as `tulu3:70b`.
pub(crate) fn from_ollama(name: &str) -> Option<&'static str> {
    match name.to_lowercase().as_str() {
        "tulu3" | "tulu3:latest" | "tulu3:8b" => Some("tulu-3-8b"),
        "tulu3:70b" => Some("tulu-3-70b"),
        _ => None,
    }
}

/// Returns the name most similar to `typed`, if one is similar enough.
pub(crate) fn nearest(typed: &str) -> Option<&'static str> {
    let typed = typed.to_lowercase();
    let typed = typed.rsplit_once('/').map_or(typed.as_str(), |(_, name)| name);
    let distance = |name: &str| {
        let sorted = strsim::damerau_levenshtein(&in_order(name), &in_order(typed));
        strsim::damerau_levenshtein(name, typed).min(sorted + 1)
    };
    let nearer = |entry: Entry| distance(entry.name).min(distance(&entry.repository.to_lowercase()));
    let (best, name) = all().map(|entry| (nearer(entry), entry.name)).min_by_key(|(distance, _)| *distance)?;
    (best <= (typed.len() / 4).max(2)).then_some(name)
}

/// Sorts the parts of a name, so that `tulu-2-13b-dpo` is similar to `tulu-2-dpo-13b`.
fn in_order(name: &str) -> String {
    let mut parts: Vec<&str> = name.split(['-', '_', ' ']).collect();
    parts.sort_unstable();
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::{Entry, ModelKind, all, find, nearest};
    use tulu_quantize::size_estimate;

    #[test]
    fn the_family_is_complete_and_its_sizes_are_the_published_ones() {
        let count = |kind: ModelKind, part: &str| all().filter(|e| e.kind == kind && e.name.contains(part)).count();
        assert_eq!((count(ModelKind::Dpo, "v2.5"), count(ModelKind::Ppo, "v2.5")), (17, 10));
        assert_eq!((count(ModelKind::Sft, "tulu-2"), count(ModelKind::Dpo, "tulu-2-")), (10, 7));
        let tulu_3 = [ModelKind::Sft, ModelKind::Dpo, ModelKind::Rlvr, ModelKind::Reward];
        assert_eq!(tulu_3.map(|kind| count(kind, "tulu-3")), [4, 3, 4, 3]);
        // published parameter counts
        for (name, params) in [
            ("tulu-2-7b", 6_738_415_616_u64),
            ("tulu-2-dpo-13b", 13_015_864_320),
            ("tulu-2-70b", 68_976_648_192),
            ("tulu-v2.5-ppo-13b-uf-mean", 13_015_864_320),
            ("tulu-3-8b", 8_030_326_784),
            ("tulu-3-70b", 70_553_837_568),
            ("tulu-3-405b", 405_853_650_944),
            ("llama-3.1-tulu-2-dpo-8b", 8_030_261_248),
            ("llama-3-tulu-2-70b", 70_553_706_496),
        ] {
            assert_eq!(size_estimate::params(find(name).unwrap().config), params, "{name}");
        }
        for name in [|e: Entry| e.name, |e: Entry| e.repository] {
            let mut names: Vec<String> = all().map(|e| name(e).to_lowercase()).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), all().count(), "a name stands twice");
        }
    }

    #[test]
    fn tulu_3_has_short_names() {
        for (name, id) in [
            ("tulu-3-8b", "allenai/Llama-3.1-Tulu-3-8B"),
            ("TULU-3-405B-sft", "allenai/Llama-3.1-Tulu-3-405B-SFT"),
            ("llama-3.1-tulu-3.1-8b", "allenai/Llama-3.1-Tulu-3.1-8B"),
            ("llama-3.1-tulu-2-dpo-70b", "allenai/llama-3.1-tulu-2-dpo-70b"),
        ] {
            assert_eq!(find(name).unwrap().repo(None).id(), id);
        }
        // A short name is not the name of a repository.
        let repo = |id: &str| super::find_repo(&super::RepoId::parse(id).unwrap()).map(|entry| entry.name);
        assert_eq!(repo("allenai/tulu-3-8b"), None);
        assert_eq!(repo("allenai/llama-3.1-tulu-3-8b"), Some("tulu-3-8b"));
        assert_eq!(super::from_ollama("tulu3:70B"), Some("tulu-3-70b"));
    }

    #[test]
    fn mistyped_names_get_suggestions() {
        for (typed, meant) in [
            ("tulu-2-13b-dpo", "tulu-2-dpo-13b"),
            ("tulu2-13b", "tulu-2-13b"),
            ("Tulu-2-DPO-7b ", "tulu-2-dpo-7b"),
            ("allenai/tulu-2-dpo-13", "tulu-2-dpo-13b"),
            ("tulu-2.5-dpo-13b-uf-mean", "tulu-v2.5-dpo-13b-uf-mean"),
            ("tulu3-8b", "tulu-3-8b"),
            ("Llama3.1-Tulu-3-70B", "tulu-3-70b"),
            ("tulu-v2.5-dpo-13b-alpacafarm-gpt4", "tulu-v2.5-dpo-13b-alpacafarm-gpt4-pref"),
        ] {
            assert_eq!(nearest(typed), Some(meant), "{typed}");
        }
        for typed in ["mistral-7b-instruct", "x", "models/my-file"] {
            assert_eq!(nearest(typed), None, "{typed}");
        }
    }
}
