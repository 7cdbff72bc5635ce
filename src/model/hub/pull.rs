//! Downloads files of a repository into the Hugging Face cache. The transfer is in `download.rs`.

use super::download;
use super::handle::Hub;
use super::listing::{Listing, RemoteFile};
use crate::error::{Code, Failure};
use crate::table;
use std::collections::HashSet;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// Bytes that a download leaves free on the disk.
const SPARE: u64 = 32 << 20;

impl Hub {
    /// Downloads those of `files` that are not in the cache. Returns the folder of the snapshot.
    ///
    /// # Errors
    /// `HUB_OFFLINE` when a file is missing offline, `DISK_FULL` before anything is downloaded, and the errors of a
    /// transfer.
    pub(crate) fn pull(
        &self,
        listing: &Listing,
        files: &[&RemoteFile],
        connections: NonZeroUsize,
    ) -> Result<PathBuf, Failure> {
        let (cache, repo) = (&self.settings.cache, &listing.repo);
        let blobs = cache.repo(repo).join("blobs");
        fs::create_dir_all(&blobs).map_err(|err| {
            let fix = "set HF_HUB_CACHE or HF_HOME to a folder that you can write to";
            Failure::machine(Code::HubCache, format!("cannot create the folder: {err}"), fix).at(&blobs)
        })?;
        let mut wanted = self.absent(listing, files);
        if !wanted.is_empty() {
            if self.settings.offline {
                let names: Vec<&str> = wanted.iter().map(|file| file.path.as_str()).collect();
                let what = format!("HF_HUB_OFFLINE is set, and the cache lacks {}", names.join(", "));
                return Err(Failure::input(Code::HubOffline, what, "unset HF_HUB_OFFLINE").at(repo.to_string()));
            }
            // locks are taken in a fixed order, so that two processes cannot deadlock
            let mut ordered = wanted.clone();
            ordered.sort_by_key(|file| file.hash.hex());
            let locks = ordered.iter().map(|file| self.lock(repo, &file.hash)).collect::<Result<Vec<_>, _>>()?;
            // another process may have downloaded some of them meanwhile
            wanted = self.absent(listing, files);
            let bytes = wanted.iter().map(|file| download::bytes_to_write(self, listing, file.size, &file.hash)).sum();
            check_disk_space(&blobs, bytes, "HF_HUB_CACHE")?;
            download::download_files(self, listing, &wanted, connections)?;
            drop(locks);
        }
        for file in files {
            cache.link(repo, &listing.commit, &file.path, &file.hash)?;
        }
        cache.record_commit(repo, &listing.commit)?;
        Ok(cache.snapshot(repo, &listing.commit))
    }

    /// Returns the files whose blobs are missing, each blob once.
    fn absent<'a>(&self, listing: &Listing, files: &[&'a RemoteFile]) -> Vec<&'a RemoteFile> {
        let mut seen = HashSet::new();
        let is_there = |file: &RemoteFile| {
            let blob = self.settings.cache.blob(&listing.repo, &file.hash);
            fs::metadata(blob).is_ok_and(|found| found.is_file() && found.len() == file.size)
        };
        files.iter().copied().filter(|file| seen.insert(file.hash.hex()) && !is_there(file)).collect()
    }

    /// Returns the bytes of `files` that the cache lacks.
    pub(crate) fn to_fetch(&self, listing: &Listing, files: &[&RemoteFile]) -> u64 {
        self.absent(listing, files).iter().map(|file| file.size).sum()
    }
}

/// Checks that the disk of `folder` has `bytes` free. The hint names the environment variable `variable`.
///
/// # Errors
/// `DISK_FULL`.
pub(crate) fn check_disk_space(folder: &Path, bytes: u64, variable: &str) -> Result<(), Failure> {
    // if the file system does not report its free space, a full disk is an error during the download
    let Some(free) = tulu_quantize::platform::free_space(folder) else { return Ok(()) };
    if bytes == 0 || free >= bytes.saturating_add(SPARE) {
        return Ok(());
    }
    let what =
        format!("needs {} of disk space ({bytes} bytes), but {} are free", table::bytes(bytes), table::bytes(free));
    Err(Failure::machine(
        Code::DiskFull,
        what,
        format!("free disk space, or set {variable} to a folder on another disk"),
    )
    .at(folder))
}
