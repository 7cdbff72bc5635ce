//! GGUF files made of the Hub's models, in the program's own cache:
//! `hub/OWNER--NAME/COMMIT/NAME-TYPE.gguf`, and `hub/OWNER--NAME/refs/REVISION` with the commit that a branch named when
//! it was last asked for. A model is as fresh as that: nothing is asked again until `--refresh`.

use super::cache;
use super::hub::{RepoId, replace};
use crate::error::Failure;
use std::fs;
use std::path::PathBuf;
use tulu_quantize::Ftype;

/// The folder of one repository.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    repo: RepoId,
    dir: PathBuf,
}

impl Made {
    /// Creates the cache's folder, but not the repository's.
    pub(crate) fn of(repo: &RepoId) -> Result<Self, Failure> {
        let dir = cache::dir()?.join("hub").join(format!("{}--{}", repo.owner, repo.name));
        Ok(Self { repo: repo.clone(), dir })
    }

    /// Where the file of a commit is, or will be.
    pub(crate) fn path(&self, commit: &str, ftype: Ftype) -> PathBuf {
        self.dir.join(commit).join(format!("{}-{ftype}.gguf", self.repo.name))
    }

    /// The commit that the revision named when it was last asked for.
    pub(crate) fn commit(&self) -> Option<String> {
        if let Some(commit) = self.repo.commit() {
            return Some(commit.to_owned());
        }
        let text = fs::read_to_string(self.dir.join("refs").join(self.repo.revision())).ok()?;
        Some(text.trim().to_owned()).filter(|commit| commit.len() == 40)
    }

    /// The file, if it is here.
    pub(crate) fn current(&self, ftype: Ftype) -> Option<PathBuf> {
        Some(self.path(&self.commit()?, ftype)).filter(|path| path.is_file())
    }

    /// Remembers which commit the revision names.
    pub(crate) fn remember(&self, commit: &str) -> Result<(), Failure> {
        if self.repo.commit().is_some() || self.commit().as_deref() == Some(commit) {
            return Ok(());
        }
        replace(&self.dir.join("refs").join(self.repo.revision()), commit.as_bytes())
    }

    /// The types that are here.
    pub(crate) fn types(&self) -> Vec<Ftype> {
        Ftype::ALL.into_iter().map(|(ftype, _)| ftype).filter(|ftype| self.current(*ftype).is_some()).collect()
    }
}
