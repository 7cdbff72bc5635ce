//! Hints in the notes of several commands.

use crate::sanitize::one_line;

/// Returns `, did you mean /clear?` when one of `names` is similar to `word`, else an empty text.
pub(super) fn did_you_mean<'n>(sign: &str, word: &str, names: impl Iterator<Item = &'n str>) -> String {
    let near = names.map(|name| (strsim::osa_distance(word, name), name)).min();
    match near {
        Some((distance, name)) if distance <= 1 + name.len() / 4 => format!(", did you mean {sign}{name}?"),
        _ => String::new(),
    }
}

/// Returns the first line of `text`, shortened.
pub(super) fn first_line(text: &str) -> String {
    const LIMIT: usize = 60;
    let line = text.trim().lines().next().unwrap_or_default();
    let cut: String = line.chars().take(LIMIT).collect();
    let more = cut.len() < text.trim().len();
    one_line(&cut) + if more { "…" } else { "" }
}
