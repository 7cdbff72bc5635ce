//! Small texts that several commands print.

use crate::sanitize::one_line;

/// `, did you mean /clear?` when one of `names` is near `word`.
pub(super) fn did_you_mean<'n>(sign: &str, word: &str, names: impl Iterator<Item = &'n str>) -> String {
    let near = names.map(|name| (strsim::osa_distance(word, name), name)).min();
    match near {
        Some((distance, name)) if distance <= 1 + name.len() / 4 => format!(", did you mean {sign}{name}?"),
        _ => String::new(),
    }
}

/// The first line of `text`, for a note.
pub(super) fn first_line(text: &str) -> String {
    const LIMIT: usize = 60;
    let line = text.trim().lines().next().unwrap_or_default();
    let cut: String = line.chars().take(LIMIT).collect();
    let more = cut.len() < text.trim().len();
    one_line(&cut) + if more { "…" } else { "" }
}
