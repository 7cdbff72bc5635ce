//! GGUF files made of the Hub's models, in the program's own cache:
//! `hub/OWNER--NAME/COMMIT/NAME-TYPE.gguf`, and `hub/OWNER--NAME/refs/REVISION` with the commit that a branch named when
//! it was last asked for. A model is as fresh as that: nothing is asked again until `--refresh`.

use super::app_dirs;
use super::hub::{RepoId, refs};
use super::if_exists;
use crate::error::Failure;
use std::path::PathBuf;
use tulu_quantize::Ftype;

/// The folder of one repository.
#[derive(Clone, Debug)]
pub(crate) struct ConvertedCache {
    repo: RepoId,
    dir: PathBuf,
}

impl ConvertedCache {
    /// Creates the cache's folder, but not the repository's.
    pub(crate) fn for_repo(repo: &RepoId) -> Result<Self, Failure> {
        let dir = app_dirs::cache_dir()?.join("hub").join(format!("{}--{}", repo.owner, repo.name));
        Ok(Self { repo: repo.clone(), dir })
    }

    /// Where the file of a commit is, or will be.
    pub(crate) fn gguf_path(&self, commit: &str, ftype: Ftype) -> PathBuf {
        self.dir.join(commit).join(format!("{}-{ftype}.gguf", self.repo.name))
    }

    /// The commit that the revision named when it was last asked for.
    pub(crate) fn commit(&self) -> Result<Option<String>, Failure> {
        match self.repo.commit() {
            Some(commit) => Ok(Some(commit.to_owned())),
            None => refs::read_commit(&self.dir.join("refs"), self.repo.revision()),
        }
    }

    /// The file and its commit, if it is here.
    pub(crate) fn current(&self, ftype: Ftype) -> Result<Option<(PathBuf, String)>, Failure> {
        let Some(commit) = self.commit()? else { return Ok(None) };
        let path = self.gguf_path(&commit, ftype);
        Ok(if_exists::is_file(&path)?.then_some((path, commit)))
    }

    /// Remembers which commit the revision names.
    pub(crate) fn record_commit(&self, commit: &str) -> Result<(), Failure> {
        if self.repo.commit().is_some() || self.commit()?.as_deref() == Some(commit) {
            return Ok(());
        }
        refs::write_commit(&self.dir.join("refs"), self.repo.revision(), commit)
    }

    /// The types that are here.
    pub(crate) fn types(&self) -> Result<Vec<Ftype>, Failure> {
        let mut types = Vec::new();
        for (ftype, _) in Ftype::ALL {
            if self.current(ftype)?.is_some() {
                types.push(ftype);
            }
        }
        Ok(types)
    }
}
