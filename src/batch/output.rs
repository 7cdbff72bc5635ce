//! Where results go: what takes them while a run goes on ([`Results`]), and how a whole output file is written, by a run or
//! by a merge. What a record says is the format's affair, what stands between them that of `frame`; stdout is in `stream`.

use super::files::beside;
use super::format::Format;
use super::frame::Frame;
use super::input::Key;
use crate::atomic_file::{self, AtomicFile, Mode};
use crate::error::Failure;
use crate::hex::hex;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// A finished record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done<'a> {
    /// Its place in the input, from 1.
    pub(crate) number: u64,
    /// What it is known by.
    pub(crate) key: Key,
    /// It was answered, not refused.
    pub(crate) ok: bool,
    /// Tokens of its prompts and of its answers.
    pub(crate) tokens: (u64, u64),
    /// The output record.
    pub(crate) record: &'a Value,
}

/// What takes the results of a run.
pub(crate) trait Results {
    /// Whether the record was answered; `None`: it is not finished.
    fn get(&self, key: Key) -> Option<bool>;
    /// Takes a result in.
    fn put(&mut self, done: &Done<'_>) -> Result<(), Failure>;
    /// Finished records.
    fn len(&self) -> u64;
    /// Called often: makes sure, from time to time, that what was taken is kept.
    fn settle(&mut self) -> Result<(), Failure>;
    /// Makes sure that what was taken is kept.
    fn sync(&mut self) -> Result<(), Failure>;
    /// Whether nobody takes results any more.
    fn closed(&self) -> bool;
}

/// What an output turned out to be.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    /// Of its bytes, in hexadecimal.
    pub(crate) sha256: String,
    /// Where refusals are, if they are not in the output itself and there are some.
    pub(crate) errors: Option<PathBuf>,
}

/// An output file being written: whole or absent.
#[derive(Debug)]
pub(crate) struct Output {
    path: PathBuf,
    out: BufWriter<Hashing>,
    frame: Frame,
    errors_path: PathBuf,
    errors: Vec<u8>,
}

impl Output {
    /// Begins the output at `path`, which is not touched before [`Output::finish`].
    pub(crate) fn create(path: &Path, format: Format) -> Result<Self, Failure> {
        let file = AtomicFile::create(path, Mode::Umask).map_err(|err| Failure::io(path, "cannot write", &err))?;
        Ok(Self {
            path: path.to_owned(),
            out: BufWriter::new(Hashing { inner: file, hash: Sha256::new() }),
            frame: Frame::new(format, path),
            errors_path: beside(path, "", ".errors")?,
            errors: Vec::new(),
        })
    }

    /// Takes the next record in: in the order of the input, unless the format has its own.
    pub(crate) fn put(&mut self, ok: bool, record: &[u8]) -> Result<(), Failure> {
        if !ok && self.frame.format.errors_apart() {
            self.errors.extend_from_slice(record);
            self.errors.push(b'\n');
            return Ok(());
        }
        self.frame.put(record, &mut self.out).map_err(|err| Failure::io(&self.path, "cannot write", &err))
    }

    /// Gives the output its name.
    pub(crate) fn finish(mut self) -> Result<Written, Failure> {
        let failed = |path: &Path, err: &io::Error| Failure::io(path, "cannot write", err);
        self.frame.end(&mut self.out).map_err(|err| failed(&self.path, &err))?;
        self.out.flush().map_err(|err| failed(&self.path, &err))?;
        let sha256 = hex(&std::mem::take(&mut self.out.get_mut().hash).finalize());
        let errors = match self.errors.is_empty() {
            // Those of an earlier run are mended.
            true => fs::remove_file(&self.errors_path).map(|()| None).or_else(|err| match err.kind() {
                io::ErrorKind::NotFound => Ok(None),
                _ => Err(failed(&self.errors_path, &err)),
            })?,
            false => {
                atomic_file::write(&self.errors_path, &self.errors, Mode::Umask)?;
                Some(self.errors_path.clone())
            }
        };
        let Hashing { inner, .. } = self.out.into_inner().map_err(|err| failed(&self.path, err.error()))?;
        inner.commit().map_err(|err| failed(&self.path, &err))?;
        Ok(Written { sha256, errors })
    }
}

/// A file whose bytes are hashed as they are written.
#[derive(Debug)]
struct Hashing {
    inner: AtomicFile,
    hash: Sha256,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.hash.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::{Format, Output};
    use std::fs;

    #[test]
    fn a_file_is_whole_or_absent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.json");
        let mut output = Output::create(&path, Format::AlpacaEval).unwrap();
        output.put(true, b"{\"a\":1}").unwrap();
        output.put(false, b"{\"b\":1}").unwrap();
        assert!(!path.exists());
        let written = output.finish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "[\n{\"a\":1}\n]\n");
        assert_eq!(fs::read_to_string(written.errors.unwrap()).unwrap(), "{\"b\":1}\n");
        assert_eq!(written.sha256, super::hex(&<sha2::Sha256 as sha2::Digest>::digest(fs::read(&path).unwrap())));

        drop(Output::create(&path, Format::AlpacaEval).unwrap());
        let output = Output::create(&path, Format::AlpacaEval).unwrap();
        assert!(output.finish().unwrap().errors.is_none());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "old errors and partial files are gone");
    }
}
