//! Models on disk: GGUF files in the program's own cache, which the program may remove, and checkpoints in the cache
//! shared with `huggingface_hub`, which it only lists.

use super::bundled::Bundle;
use super::cached_gguf::{checksum_file, lock_file};
use super::hub::{HubCache, RepoId, is_hex};
use super::if_exists;
use super::{app_dirs, lock, ready_gguf, registry, streaming};
use crate::error::Failure;
use crate::interrupt::Interrupt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use tulu_quantize::{Ftype, part_of};

/// A model on disk, in one form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredModel {
    /// A short name, a Hub id, or the name of a converted folder.
    pub(crate) name: String,
    /// The type of a converted GGUF file; `None` for files of the shared cache.
    pub(crate) ftype: Option<Ftype>,
    /// Whether these are ready GGUF files in the shared cache.
    pub(crate) ready: bool,
    /// Whether it is the partial file of an interrupted conversion.
    pub(crate) unfinished: bool,
    /// Bytes on disk.
    pub(crate) bytes: u64,
    /// The file, or the folder of a checkpoint.
    pub(crate) path: PathBuf,
}

impl StoredModel {
    /// Returns a description, such as `Q4_K_M`, `checkpoint` or `Q4_K_M unfinished`.
    pub(crate) fn description(&self) -> String {
        let shared = if self.ready { "GGUF files" } else { "checkpoint" };
        let what = self.ftype.map_or(shared.to_owned(), |ftype| ftype.to_string());
        if self.unfinished { what + " unfinished" } else { what }
    }

    /// Returns whether the program may remove it: a GGUF file of its own cache.
    pub(crate) fn is_removable(&self) -> bool {
        self.ftype.is_some()
    }

    /// Returns whether `typed` is its name, Hub id or file name, in any case.
    pub(crate) fn is_named(&self, typed: &str) -> bool {
        let id = registry::find(&self.name).map(|entry| entry.repo(None).id());
        let file = self.path.file_name().map(|name| name.to_string_lossy());
        let same = |text: &str| text.eq_ignore_ascii_case(typed);
        same(&self.name) || id.is_some_and(|id| same(&id)) || file.is_some_and(|file| same(&file))
    }
}

/// Returns all models on disk, sorted by name.
pub(crate) fn all(shared: &HubCache) -> Result<Vec<StoredModel>, Failure> {
    let own = app_dirs::cache_dir()?;
    let mut all = Vec::new();
    for path in if_exists::list(&own)? {
        all.extend(file(&path, None)?);
    }
    for folder in if_exists::list(&own.join("hub"))? {
        let name = folder.file_name().and_then(|name| name.to_str()).and_then(|name| name.split_once("--"));
        let Some(repo) = name.and_then(|(owner, name)| RepoId::parse(&format!("{owner}/{name}"))) else { continue };
        for commit in if_exists::list(&folder)? {
            if commit.file_name().and_then(|name| name.to_str()).is_some_and(|name| is_hex(name, 40)) {
                for path in if_exists::list(&commit)? {
                    all.extend(file(&path, Some(&name_of(&repo)))?);
                }
            }
        }
    }
    for repo in shared.list_repos()? {
        let whole = shared.complete_snapshot(&repo)?.is_some();
        let bytes = shared.disk_usage(&repo)?;
        // an incomplete repository is listed only if it is a model of the family
        let ready = !whole && ready_gguf::has_any(shared, &repo)?;
        if bytes > 0 && (whole || ready || registry::find_repo(&repo).is_some()) {
            let (name, path) = (name_of(&repo), shared.repo(&repo));
            all.push(StoredModel { name, ftype: None, ready, unfinished: !whole && !ready, bytes, path });
        }
    }
    all.sort_by(|a, b| (&a.name, &a.path).cmp(&(&b.name, &b.path)));
    Ok(all)
}

/// Returns the short name of a model of the family, or else the Hub id.
fn name_of(repo: &RepoId) -> String {
    registry::find_repo(repo).map_or_else(|| repo.id(), |entry| entry.name.to_owned())
}

/// Parses the name of a cached file: `NAME-TYPE.gguf`, complete or partial. For files directly in the cache, NAME ends
/// in a hash (see `resolve.rs`), which is removed.
fn file(path: &Path, name: Option<&str>) -> Result<Option<StoredModel>, Failure> {
    let Some(text) = path.file_name().map(|name| name.to_string_lossy().into_owned()) else { return Ok(None) };
    let end = part_of(Path::new(""));
    let (stem, unfinished) = match text.strip_suffix(&*end.to_string_lossy()) {
        Some(rest) => (rest, true),
        None => (text.as_str(), false),
    };
    let parts = stem.strip_suffix(".gguf").and_then(|stem| stem.rsplit_once('-'));
    let Some((own, Ok(ftype))) = parts.map(|(own, ftype)| (own, Ftype::from_str(ftype))) else { return Ok(None) };
    let Some(found) = if_exists::metadata(path)?.filter(fs::Metadata::is_file) else { return Ok(None) };
    let is_mark = |end: &str| is_hex(end, 12) || Bundle::ALL.iter().any(|bundle| own == bundle.stem());
    let own = own.rsplit_once('-').filter(|(_, end)| is_mark(end)).map_or(own, |(own, _)| own);
    let path = if unfinished { path.with_file_name(stem) } else { path.to_owned() };
    Ok(Some(StoredModel {
        name: name.unwrap_or(own).to_owned(),
        ftype: Some(ftype),
        ready: false,
        unfinished,
        bytes: found.len(),
        path,
    }))
}

/// Removes a cached GGUF file with its companion files; waits for a process that is making it.
pub(crate) fn remove(kept: &StoredModel, interrupt: &Interrupt) -> Result<(), Failure> {
    let failed = |err: &std::io::Error| Failure::io(&kept.path, "cannot remove the file", err);
    let _lock = lock::wait(&lock_file(&kept.path)?, "is making this file", interrupt, &failed)?;
    let stem = kept.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let belongs =
        [part_of(&kept.path), streaming::journal(&stem, &kept.path), checksum_file(&kept.path)?, kept.path.clone()];
    for path in belongs {
        match fs::remove_file(&path) {
            Err(err) if err.kind() != ErrorKind::NotFound => {
                return Err(Failure::io(&path, "cannot remove the file", &err));
            }
            _ => {}
        }
    }
    // removes the folder of the commit, if it is empty now
    let own = app_dirs::cache_dir()?;
    if let Some(folder) = kept.path.parent().filter(|folder| **folder != *own)
        && if_exists::is_dir(folder)?
        && if_exists::list(folder)?.is_empty()
    {
        fs::remove_dir(folder).map_err(|err| Failure::io(folder, "cannot remove the folder", &err))?;
    }
    Ok(())
}
