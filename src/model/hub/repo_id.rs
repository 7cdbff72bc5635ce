//! The id of a repository: `owner/name[@revision]`.

use super::url::percent_encode;
use std::fmt;

/// A repository on the Hub, at a branch, tag or commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RepoId {
    /// A user or an organisation.
    pub(crate) owner: String,
    /// The repository's name.
    pub(crate) name: String,
    /// Branch, tag or commit; `main` when it is not given.
    pub(crate) revision: Option<String>,
}

impl RepoId {
    /// Parses a Hub id; `None` when `text` does not have its form.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (id, revision) = text.split_once('@').map_or((text, None), |(id, revision)| (id, Some(revision)));
        let (owner, name) = id.split_once('/')?;
        let revision = match revision {
            Some(revision) if !is_revision(revision) => return None,
            other => other.map(str::to_owned),
        };
        (is_part(owner) && is_part(name)).then(|| Self { owner: owner.to_owned(), name: name.to_owned(), revision })
    }

    /// Returns `owner/name`.
    pub(crate) fn id(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    /// Returns the branch, tag or commit.
    pub(crate) fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    /// Returns the revision, if it is a commit, which cannot change.
    pub(crate) fn commit(&self) -> Option<&str> {
        self.revision.as_deref().filter(|revision| is_hex(revision, 40))
    }

    /// Returns the revision, percent-encoded as one part of a path.
    pub(super) fn encoded_revision(&self) -> String {
        let mut out = String::new();
        percent_encode(self.revision(), &mut out);
        out
    }
}

impl fmt::Display for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)?;
        self.revision.as_ref().map_or(Ok(()), |revision| write!(f, "@{revision}"))
    }
}

/// Returns whether `part` follows the Hub's rule for names: letters, digits, `-`, `_`, `.`; no `--` (the cache's
/// folders use it), no `..`, at most 96.
fn is_part(part: &str) -> bool {
    let chars = part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    let ends = !part.starts_with(['-', '.']) && !part.ends_with(['-', '.']);
    chars && ends && !part.is_empty() && part.len() <= 96 && !part.contains("--") && !part.contains("..")
}

/// Returns whether `text` follows, roughly, git's rule for branches and tags; safe as a path below `refs/`.
fn is_revision(text: &str) -> bool {
    let chars = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/' | b'+'));
    let parts = text.split('/').all(|part| !part.is_empty() && !part.starts_with('.'));
    chars && parts && text.len() <= 200 && !text.contains("..")
}

/// Returns whether `text` has exactly `digits` lower-case hexadecimal digits.
pub(crate) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::RepoId;

    #[test]
    fn hub_ids_are_told_from_paths() {
        let found = RepoId::parse("allenai/tulu-v2.5-dpo-13b-uf-mean@refs/pr/4").unwrap();
        assert_eq!((found.owner.as_str(), found.revision()), ("allenai", "refs/pr/4"));
        assert_eq!(found.to_string(), "allenai/tulu-v2.5-dpo-13b-uf-mean@refs/pr/4");
        assert_eq!(RepoId::parse("a/b").unwrap().revision(), "main");
        for other in ["a", "a/b/c", "./a", "../a", "a/", "/a", "a/b--c", "a/..", "a/b@", "a/b@../x", "a/b@.x", "a b/c"]
        {
            assert_eq!(RepoId::parse(other), None, "{other}");
        }
    }
}
