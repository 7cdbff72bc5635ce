//! Identity of a model file: a fast hash of samples, and the full SHA-256 for the manifest.

use crate::error::Failure;
use crate::interrupt::Interrupt;
use crate::sanitize::shown;
use crate::stderr;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use tulu_quantize::{hex, sha256_of};

/// Bytes at the beginning, where the metadata and the tensor table are.
const HEAD: u64 = 4 << 20;
/// Number of samples of the weights.
const SAMPLES: u64 = 64;
/// Bytes of each sample.
const SAMPLE: u64 = 64 << 10;

/// Returns the size, and a hash of the metadata and of samples of the weights, as JSON. It distinguishes models in
/// practice, but is not safe against deliberate collisions. It is fast: hashing a whole 13B file takes half a minute.
pub(crate) fn fingerprint(path: &Path) -> Result<Value, Failure> {
    let mut file = File::open(path).map_err(|err| Failure::io(path, "cannot open the model", &err))?;
    let read = |file: &mut File| -> io::Result<Value> {
        let about = file.metadata()?;
        if !about.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let size = about.len();
        let mut hash = Sha256::new();
        let mut part = Vec::new();
        file.take(HEAD).read_to_end(&mut part)?;
        hash.update(&part);
        for i in 1..=SAMPLES {
            file.seek(SeekFrom::Start(size.saturating_sub(SAMPLE) / SAMPLES * i))?;
            part.clear();
            file.take(SAMPLE).read_to_end(&mut part)?;
            hash.update(&part);
        }
        Ok(json!({"bytes": size, "sha256_of_samples": hex(&hash.finalize())}))
    };
    read(&mut file).map_err(|err| Failure::io(path, "cannot read the model", &err))
}

/// The SHA-256 of a file, computed by a background thread.
#[derive(Debug)]
pub(crate) struct FullHash(JoinHandle<Option<String>>);

impl FullHash {
    /// Starts the thread. A request to stop ends it.
    pub(crate) fn start(path: &Path, interrupt: &Interrupt) -> Self {
        let (path, interrupt): (PathBuf, Interrupt) = (path.to_owned(), interrupt.clone());
        Self(thread::spawn(move || match sha256_of_file(&path, &interrupt) {
            Ok(hash) => hash,
            Err(err) => {
                stderr::note(&format!("{}: cannot compute its sha256: {err}", shown(&path)));
                None
            }
        }))
    }

    /// Returns whether the thread has finished.
    pub(crate) fn is_done(&self) -> bool {
        self.0.is_finished()
    }

    /// Waits for the hash; `None` when the file could not be read completely.
    pub(crate) fn wait(self) -> Option<String> {
        self.0.join().ok().flatten()
    }
}

/// Returns the SHA-256 of a file in hexadecimal; `None` when a signal asked to stop.
pub(super) fn sha256_of_file(path: &Path, interrupt: &Interrupt) -> io::Result<Option<String>> {
    let mut file = File::open(path)?;
    let hashed = sha256_of(|block| {
        loop {
            if interrupt.asked().is_some() {
                return Err(None);
            }
            match file.read(block) {
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                read => return read.map_err(Some),
            }
        }
    });
    match hashed {
        Ok(hash) => Ok(Some(hash)),
        Err(None) => Ok(None),
        Err(Some(err)) => Err(err),
    }
}

#[cfg(test)]
mod tests {
    use super::{HEAD, fingerprint};

    #[test]
    fn fingerprint_depends_on_size_head_and_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let of = |bytes: &[u8]| {
            std::fs::write(file.path(), bytes).unwrap();
            fingerprint(file.path()).unwrap()
        };
        let mut bytes = vec![7_u8; HEAD as usize + 1_000_000];
        let first = of(&bytes);
        assert_eq!(first, of(&bytes));
        assert_ne!(first, of(&bytes[1..]));
        bytes[0] = 8;
        assert_ne!(first, of(&bytes));
        bytes[0] = 7;
        *bytes.last_mut().unwrap() = 8;
        assert_ne!(first, of(&bytes));
        assert_ne!(of(b""), of(b"a"));
        assert!(fingerprint(std::path::Path::new("/")).is_err());
    }
}
