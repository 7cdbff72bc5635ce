//! Looks up models of the Tulu family by name, and suggests similar names. The table is in `family.rs`, its types in
//! `entry.rs`.

mod entry;
mod family;

pub(crate) use entry::{Entry, ModelKind};

use super::hub::RepoId;
use entry::OWNER;

/// Returns all models, in the order of the table.
pub(crate) fn all() -> impl Iterator<Item = Entry> {
    family::all()
}

/// Returns the model with this short name, in any case.
pub(crate) fn find(name: &str) -> Option<Entry> {
    all().find(|entry| entry.name.eq_ignore_ascii_case(name))
}

/// Returns the model of a repository.
pub(crate) fn find_repo(repo: &RepoId) -> Option<Entry> {
    // the Hub ignores case too
    find(&repo.name).filter(|_| repo.owner.eq_ignore_ascii_case(OWNER))
}

/// Returns the name most similar to `typed`, if one is similar enough.
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

/// Sorts the parts of a name, so that `tulu-2-13b-dpo` is similar to `tulu-2-dpo-13b`.
fn in_order(name: &str) -> String {
    let mut parts: Vec<&str> = name.split(['-', '_', ' ']).collect();
    parts.sort_unstable();
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::{ModelKind, all, find, nearest};
    use tulu_quantize::size_estimate;

    #[test]
    fn the_family_is_complete_and_its_sizes_are_the_published_ones() {
        let count = |kind: ModelKind, part: &str| all().filter(|e| e.kind == kind && e.name.contains(part)).count();
        assert_eq!((count(ModelKind::Dpo, "v2.5"), count(ModelKind::Ppo, "v2.5")), (17, 9));
        assert_eq!((count(ModelKind::Sft, "tulu-2"), count(ModelKind::Dpo, "tulu-2-")), (6, 3));
        // published parameter counts
        for (name, params) in [
            ("tulu-2-7b", 6_738_415_616_u64),
            ("tulu-2-dpo-13b", 13_015_864_320),
            ("tulu-2-70b", 68_976_648_192),
            ("tulu-v2.5-ppo-13b-uf-mean", 13_015_864_320),
        ] {
            assert_eq!(size_estimate::params(find(name).unwrap().config), params, "{name}");
        }
        let mut names: Vec<&str> = all().map(|e| e.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all().count(), "a name stands twice");
    }

    #[test]
    fn mistyped_names_get_suggestions() {
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
