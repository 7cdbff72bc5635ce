//! Weight files that are elsewhere: their names, lengths and hashes are known, their bytes are asked for. Here is what
//! opening a checkpoint reads of them, which are headers and directories; the weights come through the window.

use crate::byte_source::Medium;
use crate::checkpoint::{Provenance, Weights};
use crate::error::{Code, Error, Result};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Fetches bytes of files by their names. Retries, redirects and secrets are its own business.
pub trait Supply: fmt::Debug + Send + Sync {
    /// Gives the bytes `range` of `name` to `sink`, in order and each exactly once; ends at once when `sink` refuses.
    /// Called from several threads.
    ///
    /// # Errors
    /// [`Code::Fetch`], or the sink's own error.
    fn fetch(&self, name: &str, range: Range<u64>, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()>;
}

impl Error {
    /// What a [`Supply`] answers when it cannot go on.
    #[must_use]
    pub fn fetch(name: &str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(Code::Fetch, Path::new(name), what, fix)
    }
}

/// A weight file as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DistantFile {
    /// Its name.
    pub name: String,
    /// Length in bytes.
    pub len: u64,
    /// Of its bytes: 64 hexadecimal digits in lower case.
    pub sha256: String,
}

/// The weight files of a checkpoint that is elsewhere.
#[derive(Clone, Debug)]
pub struct Distant {
    pub(super) supply: Arc<dyn Supply>,
    pub(super) files: Vec<DistantFile>,
    repository: String,
    revision: String,
}

impl Distant {
    /// The files of `repository` (`owner/name`) at the commit `revision`.
    #[must_use]
    pub fn new(supply: Arc<dyn Supply>, repository: &str, revision: &str, files: Vec<DistantFile>) -> Self {
        Self { supply, files, repository: repository.to_owned(), revision: revision.to_owned() }
    }

    pub(super) fn file(&self, name: &str) -> Option<&DistantFile> {
        self.files.iter().find(|file| file.name == name)
    }

    /// `owner/name@commit`.
    pub(super) fn place(&self) -> String {
        format!("{}@{}", self.repository, self.revision)
    }
}

impl Weights for Distant {
    fn names(&self) -> Result<Vec<String>> {
        Ok(self.files.iter().map(|file| file.name.clone()).collect())
    }

    fn open(&self, name: &str, path: &Path) -> Result<Arc<dyn Medium>> {
        let file = self.file(name).cloned();
        let file = file.ok_or_else(|| Error::new(Code::NotFound, path, "is not listed", "check the repository"))?;
        Ok(Arc::new(Far { supply: self.supply.clone(), file, kept: Mutex::default() }))
    }

    fn provenance(&self, names: &[&str]) -> Result<Provenance> {
        let listed = names.iter().filter_map(|name| self.file(name));
        Ok(Provenance {
            repository: Some(self.repository.clone()),
            revision: Some(self.revision.clone()),
            sha256: listed.map(|file| (file.name.clone(), file.sha256.clone())).collect(),
        })
    }
}

/// Parts fetched together by [`Medium::expect`].
const TOGETHER: usize = 8;
/// Parts nearer than this are one request.
const NEAR: u64 = 4 << 10;

/// One file, read here and there. What was fetched is kept: the header or the directory, and what lies around it.
#[derive(Debug)]
struct Far {
    supply: Arc<dyn Supply>,
    file: DistantFile,
    /// By first byte; several when a place was read again, further than before.
    kept: Mutex<BTreeMap<u64, Vec<Vec<u8>>>>,
}

impl Far {
    /// What one request fetches at the beginning or the end: all of a usual header or directory.
    fn ahead(&self) -> u64 {
        (self.file.len / 64).clamp(8 << 10, 256 << 10)
    }

    /// Copies what is asked for out of what is kept, if it is there in one part.
    fn copy(&self, buf: &mut [u8], offset: u64) -> bool {
        let Ok(kept) = self.kept.lock() else { return false };
        let Some((first, parts)) = kept.range(..=offset).next_back() else { return false };
        let at = usize::try_from(offset - first).ok();
        let part = parts.iter().rev().find_map(|bytes| bytes.get(at?..at?.checked_add(buf.len())?));
        part.inspect(|part| buf.copy_from_slice(part)).is_some()
    }

    /// Fetches a part and keeps it.
    fn get(&self, range: Range<u64>) -> Result<()> {
        let mut bytes = Vec::with_capacity(usize::try_from(range.end - range.start).unwrap_or(0));
        self.supply.fetch(&self.file.name, range.clone(), &mut |part| {
            bytes.extend_from_slice(part);
            Ok(())
        })?;
        if let Ok(mut kept) = self.kept.lock() {
            // a part that was read stays: all that was ever read is compared with what passes the sum
            let parts = kept.entry(range.start).or_default();
            let is_new = |part: &Vec<u8>| !part.starts_with(&bytes);
            if parts.iter().all(is_new) {
                parts.push(bytes);
            }
        }
        Ok(())
    }
}

impl Medium for Far {
    fn len(&self) -> u64 {
        self.file.len
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.file.len);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        if self.copy(buf, offset) {
            return Ok(());
        }
        let ahead = self.ahead();
        let range = if offset < ahead {
            0..end.max(ahead).min(self.file.len)
        } else if end > self.file.len - ahead.min(self.file.len) {
            offset.min(self.file.len - ahead)..self.file.len
        } else {
            offset..end.max(offset.saturating_add(NEAR)).min(self.file.len)
        };
        self.get(range).map_err(io::Error::other)?;
        if self.copy(buf, offset) { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn contradicts(&self, offset: u64, bytes: &[u8]) -> Option<u64> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let end = offset.saturating_add(bytes.len() as u64);
        let parts = kept.range(..end).flat_map(|(first, parts)| parts.iter().map(move |part| (*first, part)));
        let differs = |(first, part): (u64, &Vec<u8>)| {
            let begin = first.max(offset);
            let there = part.get(usize::try_from(begin - first).ok()?..)?;
            let here = bytes.get(usize::try_from(begin - offset).ok()?..)?;
            let at = there.iter().zip(here).position(|(a, b)| a != b)?;
            Some(begin + at as u64)
        };
        parts.filter_map(differs).min()
    }

    fn expect(&self, parts: &[Range<u64>]) {
        let mut joined: Vec<Range<u64>> = Vec::new();
        let mut parts: Vec<Range<u64>> = parts.iter().map(|p| p.start..p.end.min(self.file.len)).collect();
        parts.sort_by_key(|part| part.start);
        for part in parts.into_iter().filter(|part| part.start < part.end) {
            match joined.last_mut() {
                Some(last) if part.start <= last.end.saturating_add(NEAR) => last.end = last.end.max(part.end),
                _ => joined.push(part),
            }
        }
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..TOGETHER.min(joined.len()) {
                let fetcher = std::thread::Builder::new().spawn_scoped(scope, || {
                    while let Some(part) = joined.get(next.fetch_add(1, Ordering::Relaxed)) {
                        // what fails here is asked for again by who needs it, and is reported then
                        if self.get(part.clone()).is_err() {
                            return;
                        }
                    }
                });
                // without a thread it is fetched later, by who needs it
                if fetcher.is_err() {
                    break;
                }
            }
        });
    }
}
