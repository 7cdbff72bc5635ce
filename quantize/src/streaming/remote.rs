//! Remote weight files: names, lengths and hashes are known, and bytes are fetched by range. The readers in
//! `checkpoint/` read headers and directories through this module; weights are read through `segment_buffer`.

use crate::byte_source::ByteSource;
use crate::checkpoint::{Provenance, WeightFiles};
use crate::error::{Code, Error, Result};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Fetches byte ranges of files. Implementations handle retries, redirects and credentials.
pub trait RangeSource: fmt::Debug + Send + Sync {
    /// Passes the bytes `range` of the file `name` to `sink`, in order and each byte once. Returns as soon as `sink`
    /// fails. Several threads call it at the same time.
    ///
    /// # Errors
    /// [`Code::Fetch`] ([`Error::fetch`]), or the error of `sink`.
    fn fetch(&self, name: &str, range: Range<u64>, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()>;
}

impl Error {
    /// Returns the error [`Code::Fetch`] of a [`RangeSource`] that cannot fetch the file `name`. `what` is the problem,
    /// a predicate whose subject is the file; `fix` is how to fix it.
    #[must_use]
    pub fn fetch(name: &str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(Code::Fetch, Path::new(name), what, fix)
    }
}

/// A weight file in the server's listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteFile {
    /// Name of the file in the repository.
    pub name: String,
    /// Length in bytes.
    pub len: u64,
    /// SHA-256: 64 lower-case hexadecimal digits.
    pub sha256: String,
}

/// The weight files of a remote checkpoint.
#[derive(Clone, Debug)]
pub struct RemoteCheckpoint {
    pub(super) ranges: Arc<dyn RangeSource>,
    pub(super) files: Vec<RemoteFile>,
    repository: String,
    revision: String,
}

impl RemoteCheckpoint {
    /// Describes the files of `repository` (`owner/name`) at the commit `revision`.
    #[must_use]
    pub fn new(ranges: Arc<dyn RangeSource>, repository: &str, revision: &str, files: Vec<RemoteFile>) -> Self {
        Self { ranges, files, repository: repository.to_owned(), revision: revision.to_owned() }
    }

    pub(super) fn file(&self, name: &str) -> Option<&RemoteFile> {
        self.files.iter().find(|file| file.name == name)
    }

    /// Returns `owner/name@commit`.
    pub(super) fn place(&self) -> String {
        format!("{}@{}", self.repository, self.revision)
    }
}

impl WeightFiles for RemoteCheckpoint {
    fn names(&self) -> Result<Vec<String>> {
        Ok(self.files.iter().map(|file| file.name.clone()).collect())
    }

    fn open(&self, name: &str, path: &Path) -> Result<Arc<dyn ByteSource>> {
        let file = self.file(name).cloned();
        let file = file.ok_or_else(|| Error::new(Code::NotFound, path, "is not listed", "check the repository"))?;
        Ok(Arc::new(RemoteReader { ranges: self.ranges.clone(), file, cached: Mutex::default() }))
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

/// Threads of [`ByteSource::prefetch`].
const PREFETCH_THREADS: usize = 8;
/// Ranges with a gap of at most this many bytes are joined into one request. Also the minimum length of a request.
const JOIN_DISTANCE: u64 = 4 << 10;

/// Sparse reader of a remote file; it caches the ranges that it fetched.
#[derive(Debug)]
struct RemoteReader {
    ranges: Arc<dyn RangeSource>,
    file: RemoteFile,
    /// Fetched ranges by offset; several when a longer range was fetched from the same offset.
    cached: Mutex<BTreeMap<u64, Vec<Vec<u8>>>>,
}

impl RemoteReader {
    /// Returns the bytes that a request at the start or the end of the file fetches: a whole header or directory,
    /// usually.
    fn read_ahead(&self) -> u64 {
        (self.file.len / 64).clamp(8 << 10, 256 << 10)
    }

    /// Fills `buf` from the cache; returns false if no cached range contains all of its bytes.
    fn copy(&self, buf: &mut [u8], offset: u64) -> bool {
        let Ok(cached) = self.cached.lock() else { return false };
        let Some((first, parts)) = cached.range(..=offset).next_back() else { return false };
        let at = usize::try_from(offset - first).ok();
        let part = parts.iter().rev().find_map(|bytes| bytes.get(at?..at?.checked_add(buf.len())?));
        part.inspect(|part| buf.copy_from_slice(part)).is_some()
    }

    /// Fetches a range into the cache.
    fn fetch(&self, range: Range<u64>) -> Result<()> {
        let mut bytes = Vec::with_capacity(usize::try_from(range.end - range.start).unwrap_or(0));
        self.ranges.fetch(&self.file.name, range.clone(), &mut |part| {
            bytes.extend_from_slice(part);
            Ok(())
        })?;
        if let Ok(mut cached) = self.cached.lock() {
            // keep all ranges, because they are compared with the hashed bytes later
            let parts = cached.entry(range.start).or_default();
            let is_new = |part: &Vec<u8>| !part.starts_with(&bytes);
            if parts.iter().all(is_new) {
                parts.push(bytes);
            }
        }
        Ok(())
    }
}

impl ByteSource for RemoteReader {
    fn len(&self) -> u64 {
        self.file.len
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.file.len);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        if self.copy(buf, offset) {
            return Ok(());
        }
        let read_ahead = self.read_ahead();
        let range = if offset < read_ahead {
            0..end.max(read_ahead).min(self.file.len)
        } else if end > self.file.len - read_ahead.min(self.file.len) {
            offset.min(self.file.len - read_ahead)..self.file.len
        } else {
            offset..end.max(offset.saturating_add(JOIN_DISTANCE)).min(self.file.len)
        };
        self.fetch(range).map_err(io::Error::other)?;
        if self.copy(buf, offset) { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn first_difference(&self, offset: u64, bytes: &[u8]) -> Option<u64> {
        let cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        let end = offset.saturating_add(bytes.len() as u64);
        let parts = cached.range(..end).flat_map(|(first, parts)| parts.iter().map(move |part| (*first, part)));
        let differs = |(first, part): (u64, &Vec<u8>)| {
            let begin = first.max(offset);
            let there = part.get(usize::try_from(begin - first).ok()?..)?;
            let here = bytes.get(usize::try_from(begin - offset).ok()?..)?;
            let at = there.iter().zip(here).position(|(a, b)| a != b)?;
            Some(begin + at as u64)
        };
        parts.filter_map(differs).min()
    }

    fn prefetch(&self, parts: &[Range<u64>]) {
        let mut joined: Vec<Range<u64>> = Vec::new();
        let mut parts: Vec<Range<u64>> = parts.iter().map(|p| p.start..p.end.min(self.file.len)).collect();
        parts.sort_by_key(|part| part.start);
        for part in parts.into_iter().filter(|part| part.start < part.end) {
            match joined.last_mut() {
                Some(last) if part.start <= last.end.saturating_add(JOIN_DISTANCE) => last.end = last.end.max(part.end),
                _ => joined.push(part),
            }
        }
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..PREFETCH_THREADS.min(joined.len()) {
                let fetcher = std::thread::Builder::new().spawn_scoped(scope, || {
                    while let Some(part) = joined.get(next.fetch_add(1, Ordering::Relaxed)) {
                        // the reader fetches the range again and reports the error
                        if self.fetch(part.clone()).is_err() {
                            return;
                        }
                    }
                });
                // without a thread the reader fetches the range later
                if fetcher.is_err() {
                    break;
                }
            }
        });
    }
}
