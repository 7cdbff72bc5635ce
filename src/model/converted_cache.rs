//! GGUF files converted from models of the Hub, in the program's own cache: `hub/OWNER--NAME/COMMIT/NAME-TYPE.gguf`.
//! `hub/OWNER--NAME/refs/REVISION` records the commit that a branch had at the last request. This commit is used until
//! `--refresh`.

use super::app_dirs;
use super::hub::{RepoId, refs};
use super::if_exists;
use crate::error::Failure;
use std::path::PathBuf;
use tulu_quantize::Ftype;

/// The converted files of one repository.
#[derive(Clone, Debug)]
pub(crate) struct ConvertedCache {
    repo: RepoId,
    dir: PathBuf,
}

impl ConvertedCache {
    /// Opens the cache of `repo`. Creates the folder of the cache, but not that of the repository.
    pub(crate) fn for_repo(repo: &RepoId) -> Result<Self, Failure> {
        let dir = app_dirs::cache_dir()?.join("hub").join(format!("{}--{}", repo.owner, repo.name));
        Ok(Self { repo: repo.clone(), dir })
    }

    /// Returns the path of the GGUF file of a commit. The file may not exist.
    pub(crate) fn gguf_path(&self, commit: &str, ftype: Ftype) -> PathBuf {
        self.dir.join(commit).join(format!("{}-{ftype}.gguf", self.repo.name))
    }

    /// Returns the commit that the revision had at the last request.
    pub(crate) fn commit(&self) -> Result<Option<String>, Failure> {
        match self.repo.commit() {
            Some(commit) => Ok(Some(commit.to_owned())),
            None => refs::read_commit(&self.dir.join("refs"), self.repo.revision()),
        }
    }

    /// Returns the file of the recorded commit, and that commit, if the file exists.
    pub(crate) fn current(&self, ftype: Ftype) -> Result<Option<(PathBuf, String)>, Failure> {
        let Some(commit) = self.commit()? else { return Ok(None) };
        let path = self.gguf_path(&commit, ftype);
        Ok(if_exists::is_file(&path)?.then_some((path, commit)))
    }

    /// Records the commit of the revision.
    pub(crate) fn record_commit(&self, commit: &str) -> Result<(), Failure> {
        if self.repo.commit().is_some() || self.commit()?.as_deref() == Some(commit) {
            return Ok(());
        }
        refs::write_commit(&self.dir.join("refs"), self.repo.revision(), commit)
    }

    /// Returns the types of existing files.
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
