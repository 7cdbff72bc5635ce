//! The sums of a run that is not finished, in a file: they are written every few seconds and when the run is stopped, so
//! that the same command goes on. Sums in f32 are stored exactly, so the result is the same.

use crate::atomic_file::{self, Mode};
use crate::error::Failure;
use crate::model::if_exists;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tulu_quantize::{ImatrixSums, Sums};

/// Time between two writes.
const INTERVAL: Duration = Duration::from_secs(10);

/// A file with the sums of the chunks so far.
#[derive(Debug)]
pub(crate) struct Unfinished {
    path: PathBuf,
    /// What the sums depend on.
    identity: String,
    /// Chunks that are in `entries`.
    done: usize,
    entries: BTreeMap<String, Sums>,
    /// Chunks that are in the file.
    written: usize,
    last_write: Instant,
}

impl Unfinished {
    /// Reads the file at `path`, if it exists and has this `identity`.
    pub(crate) fn open(path: &Path, identity: &str) -> Result<Self, Failure> {
        let mut this = Self {
            path: path.to_owned(),
            identity: identity.to_owned(),
            done: 0,
            entries: BTreeMap::new(),
            written: 0,
            last_write: Instant::now(),
        };
        if if_exists::is_file(path)?
            && let Ok(sums) = ImatrixSums::read(path, 0)
            && let [known, done] = sums.datasets.as_slice()
            && known == identity
            && let Ok(done) = done.parse()
        {
            (this.done, this.written, this.entries) = (done, done, sums.entries);
        }
        Ok(this)
    }

    /// Returns the chunks that are done, and their sums.
    pub(crate) fn begin(&self) -> (usize, BTreeMap<String, Sums>) {
        (self.done, self.entries.clone())
    }

    /// Takes the sums of the first `done` chunks, and writes them if the last write is some seconds ago.
    pub(crate) fn computed(&mut self, done: usize, entries: &BTreeMap<String, Sums>) -> Result<(), Failure> {
        self.done = done;
        self.entries.clone_from(entries);
        if self.last_write.elapsed() >= INTERVAL { self.save() } else { Ok(()) }
    }

    /// Writes the sums.
    pub(crate) fn save(&mut self) -> Result<(), Failure> {
        if self.done > self.written {
            // The file is an importance matrix; the identity and the number of chunks are in the place of the datasets.
            let datasets = vec![self.identity.clone(), self.done.to_string()];
            let sums = ImatrixSums { datasets, chunk_size: 1, entries: self.entries.clone() };
            atomic_file::write(&self.path, &sums.encode(), Mode::Umask)?;
            self.written = self.done;
        }
        self.last_write = Instant::now();
        Ok(())
    }

    /// Deletes the file: the run is finished.
    pub(crate) fn delete(self) {
        let _ = fs::remove_file(&self.path);
    }
}
