//! The lock of a blob, so that only one process downloads it. `huggingface_hub` takes the same lock.

use super::handle::Hub;
use super::hash::FileHash;
use super::repo_id::RepoId;
use crate::error::{Code, Failure};
use crate::model::lock::{self, Lock};

impl Hub {
    /// Waits for the lock of a blob; dropping it unlocks.
    pub(super) fn lock(&self, repo: &RepoId, hash: &FileHash) -> Result<Lock, Failure> {
        let path = self.settings.cache.lock(repo, hash);
        lock::wait(&path, &format!("is downloading {}", repo.id()), &self.interrupt, &|err| {
            Failure::machine(
                Code::HubCache,
                format!("cannot lock: {err}"),
                "set HF_HUB_CACHE to a folder that you can write to",
            )
            .at(&path)
        })
    }
}
