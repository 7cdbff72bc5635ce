//! Writes the output file of a run or a merge. `output_framing` writes the separators between records; the sinks of a
//! run in progress are `journal` and `stdout_sink`.

use super::digest::Hashed;
use super::format::Format;
use super::output_framing::OutputFraming;
use super::paths::beside;
use crate::atomic_file::{self, AtomicFile, Mode};
use crate::error::Failure;
use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Summary of a written output.
#[derive(Clone, Debug)]
pub(crate) struct WrittenOutput {
    /// SHA-256, in hexadecimal.
    pub(crate) sha256: String,
    /// Path of the file with the failed records, if there are some and they are not in the output.
    pub(crate) errors: Option<PathBuf>,
}

/// An output file that is written atomically.
#[derive(Debug)]
pub(crate) struct OutputFile {
    path: PathBuf,
    out: BufWriter<Hashed<AtomicFile>>,
    frame: OutputFraming,
    errors_path: PathBuf,
    errors: Vec<u8>,
}

impl OutputFile {
    /// Starts the output at `path`, which is not changed before [`OutputFile::finish`].
    pub(crate) fn create(path: &Path, format: Format) -> Result<Self, Failure> {
        let file = AtomicFile::create(path, Mode::Umask).map_err(|err| Failure::io(path, "cannot write", &err))?;
        Ok(Self {
            path: path.to_owned(),
            out: BufWriter::new(Hashed::new(file)),
            frame: OutputFraming::new(format, path),
            errors_path: beside(path, "", ".errors")?,
            errors: Vec::new(),
        })
    }

    /// Appends the next record. Call it in the order of the input; a format with its own order sorts them.
    pub(crate) fn put(&mut self, ok: bool, record: &[u8]) -> Result<(), Failure> {
        if !ok && self.frame.format.separates_errors() {
            self.errors.extend_from_slice(record);
            self.errors.push(b'\n');
            return Ok(());
        }
        self.frame.put(record, &mut self.out).map_err(|err| Failure::io(&self.path, "cannot write", &err))
    }

    /// Commits the output and the file of failed records.
    pub(crate) fn finish(mut self) -> Result<WrittenOutput, Failure> {
        let failed = |path: &Path, err: &io::Error| Failure::io(path, "cannot write", err);
        self.frame.end(&mut self.out).map_err(|err| failed(&self.path, &err))?;
        self.out.flush().map_err(|err| failed(&self.path, &err))?;
        let sha256 = self.out.get_ref().sha256();
        let errors = match self.errors.is_empty() {
            // This run has no failed records: remove the errors file of an earlier run.
            true => fs::remove_file(&self.errors_path).map(|()| None).or_else(|err| match err.kind() {
                io::ErrorKind::NotFound => Ok(None),
                _ => Err(failed(&self.errors_path, &err)),
            })?,
            false => {
                atomic_file::write(&self.errors_path, &self.errors, Mode::Umask)?;
                Some(self.errors_path.clone())
            }
        };
        let file = self.out.into_inner().map_err(|err| failed(&self.path, err.error()))?.into_inner();
        file.commit().map_err(|err| failed(&self.path, &err))?;
        Ok(WrittenOutput { sha256, errors })
    }
}

#[cfg(test)]
mod tests {
    use super::{Format, OutputFile};
    use std::fs;

    #[test]
    fn output_is_written_atomically() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.json");
        let mut output = OutputFile::create(&path, Format::AlpacaEval).unwrap();
        output.put(true, b"{\"a\":1}").unwrap();
        output.put(false, b"{\"b\":1}").unwrap();
        assert!(!path.exists());
        let written = output.finish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "[\n{\"a\":1}\n]\n");
        assert_eq!(fs::read_to_string(written.errors.unwrap()).unwrap(), "{\"b\":1}\n");
        assert_eq!(
            written.sha256,
            tulu_quantize::hex(&<sha2::Sha256 as sha2::Digest>::digest(fs::read(&path).unwrap()))
        );

        drop(OutputFile::create(&path, Format::AlpacaEval).unwrap());
        let output = OutputFile::create(&path, Format::AlpacaEval).unwrap();
        assert!(output.finish().unwrap().errors.is_none());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "old errors and partial files are gone");
    }
}
