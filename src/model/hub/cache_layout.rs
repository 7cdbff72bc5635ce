//! Paths and files of the cache that `huggingface_hub` shares, named as hf-hub names them:
//! `models--OWNER--NAME/{blobs/HASH, snapshots/COMMIT/FILE → ../../blobs/HASH, refs/REVISION}` and `.locks`.

use super::hash::FileHash;
use super::refs;
use super::repo_id::RepoId;
use crate::error::Failure;
use crate::model::if_exists;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use tulu_quantize::platform;

/// The folder of the cache.
#[derive(Clone, Debug)]
pub(crate) struct HubCache(pub(crate) PathBuf);

impl HubCache {
    /// Returns a repository's folder: `models--OWNER--NAME`.
    pub(crate) fn repo(&self, repo: &RepoId) -> PathBuf {
        self.0.join(hf_repo(repo).folder_name())
    }

    /// Returns the path of a blob. The file exists only if it is complete and its hash is right.
    pub(super) fn blob(&self, repo: &RepoId, hash: &FileHash) -> PathBuf {
        self.repo(repo).join("blobs").join(hash.hex())
    }

    /// Returns the folder of a commit's files.
    pub(super) fn snapshot(&self, repo: &RepoId, commit: &str) -> PathBuf {
        hf_hub::Cache::new(self.0.clone()).repo(hf_repo(repo)).pointer_path(commit)
    }

    /// Returns the lock file of a blob. `huggingface_hub` locks it too while it downloads the blob.
    pub(super) fn lock(&self, repo: &RepoId, hash: &FileHash) -> PathBuf {
        self.0.join(".locks").join(hf_repo(repo).folder_name()).join(format!("{}.lock", hash.hex()))
    }

    /// Returns the commit of the revision at the last download.
    pub(crate) fn commit(&self, repo: &RepoId) -> Result<Option<String>, Failure> {
        match repo.commit() {
            Some(commit) => Ok(Some(commit.to_owned())),
            None => refs::read_commit(&self.repo(repo).join("refs"), repo.revision()),
        }
    }

    /// Returns the folder of a complete checkpoint; the network is not used.
    pub(crate) fn complete_snapshot(&self, repo: &RepoId) -> Result<Option<PathBuf>, Failure> {
        let Some(folder) = self.partial_snapshot(repo)? else { return Ok(None) };
        Ok(missing_files(&folder)?.is_empty().then_some(folder))
    }

    /// Returns the folder of a checkpoint, complete or not.
    pub(crate) fn partial_snapshot(&self, repo: &RepoId) -> Result<Option<PathBuf>, Failure> {
        let Some(commit) = self.commit(repo)? else { return Ok(None) };
        let folder = self.snapshot(repo, &commit);
        Ok(if_exists::is_dir(&folder)?.then_some(folder))
    }

    /// Returns the bytes on disk of a repository, including unfinished downloads.
    pub(crate) fn disk_usage(&self, repo: &RepoId) -> Result<u64, Failure> {
        let mut sum = 0_u64;
        for blob in if_exists::list(&self.repo(repo).join("blobs"))? {
            let taken = if_exists::metadata(&blob)?.map_or(0, |found| platform::allocated(&found).min(found.len()));
            sum = sum.saturating_add(taken);
        }
        Ok(sum)
    }

    /// Returns the repositories of models in the cache.
    pub(crate) fn list_repos(&self) -> Result<Vec<RepoId>, Failure> {
        let of = |path: PathBuf| {
            let (owner, name) = path.file_name()?.to_str()?.strip_prefix("models--")?.split_once("--")?;
            RepoId::parse(&format!("{owner}/{name}"))
        };
        Ok(if_exists::list(&self.0)?.into_iter().filter_map(of).collect())
    }

    /// Records the commit of the revision.
    pub(super) fn record_commit(&self, repo: &RepoId, commit: &str) -> Result<(), Failure> {
        if repo.commit().is_some() {
            return Ok(());
        }
        refs::write_commit(&self.repo(repo).join("refs"), repo.revision(), commit)
    }

    /// Symlinks `path` in the snapshot to the blob.
    pub(super) fn link(&self, repo: &RepoId, commit: &str, path: &str, hash: &FileHash) -> Result<(), Failure> {
        let link = self.snapshot(repo, commit).join(path);
        let up = "../".repeat(2 + path.matches('/').count());
        let to = PathBuf::from(format!("{up}blobs/{}", hash.hex()));
        if fs::read_link(&link).is_ok_and(|now| now == to) {
            return Ok(());
        }
        let io = |err: std::io::Error| Failure::io(&link, "cannot link the file", &err);
        if let Some(parent) = link.parent() {
            fs::create_dir_all(parent).map_err(io)?;
        }
        match fs::remove_file(&link) {
            Err(err) if err.kind() != ErrorKind::NotFound => return Err(io(err)),
            _ => {}
        }
        match platform::symlink(&to, &link) {
            // another process made the same link
            Err(err) if err.kind() == ErrorKind::AlreadyExists => Ok(()),
            other => other.map_err(io),
        }
    }
}

/// Converts a repository to hf-hub's type.
fn hf_repo(repo: &RepoId) -> hf_hub::Repo {
    hf_hub::Repo::with_revision(repo.id(), hf_hub::RepoType::Model, repo.revision().to_owned())
}

/// Returns the names of the files that a conversion needs and `folder` does not contain.
pub(crate) fn missing_files(folder: &Path) -> Result<Vec<String>, Failure> {
    let lacking = |names: &mut dyn Iterator<Item = &str>| {
        let mut all: Vec<String> = Vec::new();
        for name in names {
            if if_exists::metadata(&folder.join(name))?.is_none() {
                all.push(name.to_owned());
            }
        }
        Ok::<_, Failure>(all)
    };
    let mut all = lacking(&mut ["config.json"].into_iter())?;
    // Tulu 3, and what Transformers 5 saves, has only tokenizer.json
    if if_exists::metadata(&folder.join("tokenizer.json"))?.is_none() {
        all.extend(lacking(&mut ["tokenizer.model"].into_iter())?);
    }
    let formats = ["model.safetensors", "pytorch_model.bin"];
    let mut best: Option<Vec<String>> = None;
    for single in formats {
        if if_exists::metadata(&folder.join(single))?.is_some() {
            return Ok(all);
        }
        let Some(index) = if_exists::read(&folder.join(format!("{single}.index.json")))? else { continue };
        let index: Value = serde_json::from_slice(&index).unwrap_or_default();
        let shards: BTreeSet<&str> =
            index["weight_map"].as_object().into_iter().flatten().filter_map(|(_, shard)| shard.as_str()).collect();
        let lack = lacking(&mut shards.iter().copied())?;
        if !shards.is_empty() && best.as_ref().is_none_or(|b| lack.len() < b.len()) {
            best = Some(lack);
        }
    }
    all.extend(best.unwrap_or_else(|| formats.map(String::from).to_vec()));
    Ok(all)
}
