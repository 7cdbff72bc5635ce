//! Parses paths typed after a slash command as a shell does: `~/` is the home folder, a backslash or quotes keep a
//! space.

use std::fs;
use std::path::{Path, PathBuf};

/// Returns the path that `text` means. An existing file with exactly this name has priority.
pub(super) fn parse(text: &str) -> PathBuf {
    let text = text.trim();
    if fs::symlink_metadata(text).is_ok() {
        return text.into();
    }
    expand_home(&unquote(text))
}

/// Replaces `~` or `~/` at the beginning by the home folder.
pub(super) fn expand_home(text: &str) -> PathBuf {
    let home = || std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    let rest = text.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with('/'));
    match rest.and_then(|rest| Some((home()?, rest.trim_start_matches('/')))) {
        Some((home, "")) => home,
        Some((home, rest)) => home.join(rest),
        None => Path::new(text).to_owned(),
    }
}

/// Removes quotes around `text`, and backslashes in it.
fn unquote(text: &str) -> String {
    for quote in ['\'', '"'] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            return if quote == '"' { unescape(inner) } else { inner.to_owned() };
        }
    }
    unescape(text)
}

fn unescape(text: &str) -> String {
    rustyline::completion::unescape(text, Some('\\')).into_owned()
}

#[cfg(test)]
mod tests {
    use super::parse;
    use std::path::{Path, PathBuf};

    #[test]
    fn paths_are_parsed_as_in_a_shell() {
        let home = PathBuf::from(std::env::var_os("HOME").unwrap());
        for (typed, wanted) in [
            ("a b.txt", "a b.txt"),
            ("a\\ b.txt", "a b.txt"),
            ("\"a b.txt\"", "a b.txt"),
            ("'a b.txt'", "a b.txt"),
            ("'a\\b'", "a\\b"),
            ("\"a\\\"b\"", "a\"b"),
            ("~x/y", "~x/y"),
            ("a/~/b", "a/~/b"),
            ("\"", "\""),
        ] {
            assert_eq!(parse(typed), Path::new(wanted), "{typed}");
        }
        assert_eq!(parse("~"), home);
        assert_eq!(parse("~/a\\ b"), home.join("a b"));
        assert_eq!(parse("\"~/a b\""), home.join("a b"));
    }
}
