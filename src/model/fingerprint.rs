//! Knowing a model file again: at once by samples of it, and for the manifest by all of it.

use crate::error::Failure;
use crate::hex::hex;
use crate::interrupt::Interrupt;
use crate::sanitize::shown;
use crate::stderr;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

/// The beginning, where the metadata and the tensor table are.
const HEAD: u64 = 4 << 20;
/// Samples of the weights.
const SAMPLES: u64 = 64;
/// Bytes of each.
const SAMPLE: u64 = 64 << 10;

/// Size and a hash of the metadata and samples of the weights: two models, or two types of one, never have the same, and
/// a 13B file takes a moment instead of half a minute. It is not proof against someone who wants to fool it.
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

/// The sha256 of a whole file, computed while other work goes on.
#[derive(Debug)]
pub(crate) struct FullHash(JoinHandle<Option<String>>);

impl FullHash {
    /// Begins to read. A request to stop ends it.
    pub(crate) fn start(path: &Path, interrupt: &Interrupt) -> Self {
        let (path, interrupt): (PathBuf, Interrupt) = (path.to_owned(), interrupt.clone());
        Self(thread::spawn(move || match sha256_of_file(&path, &interrupt) {
            Ok(hash) => hash,
            Err(err) => {
                stderr::note(&format!("{}: cannot read it for its sha256: {err}", shown(&path)));
                None
            }
        }))
    }

    /// Whether waiting takes no time.
    pub(crate) fn is_done(&self) -> bool {
        self.0.is_finished()
    }

    /// Waits for it; `None` when the file could not be read to its end.
    pub(crate) fn wait(self) -> Option<String> {
        self.0.join().ok().flatten()
    }
}

/// The SHA-256 of a file in hexadecimal; `None` when a signal asked to stop.
pub(super) fn sha256_of_file(path: &Path, interrupt: &Interrupt) -> io::Result<Option<String>> {
    let mut file = File::open(path)?;
    let (mut hash, mut part) = (Sha256::new(), vec![0; 1 << 20]);
    while interrupt.asked().is_none() {
        match file.read(&mut part) {
            Ok(0) => return Ok(Some(hex(&hash.finalize()))),
            Ok(n) => hash.update(&part[..n]),
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::{HEAD, fingerprint};

    #[test]
    fn a_file_is_known_by_its_head_its_size_and_its_end() {
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
