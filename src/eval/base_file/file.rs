//! The file with the base's distributions: a line that says what they depend on, then a record with a checksum for each
//! chunk, in order. It grows while the base is computed; a torn last record is dropped, so that a killed run goes on.

use crate::error::{Code, Failure};
use std::fs::{self, File, TryLockError};
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// The first bytes of the line.
const MAGIC: &str = "tulu-quant base ";
/// Longest line.
const LINE_MAX: u64 = 64 << 10;

/// The file.
#[derive(Debug)]
pub(crate) struct BaseFile {
    file: File,
    path: PathBuf,
    /// First byte and length of each record's contents.
    records: Vec<(u64, usize)>,
    end: u64,
}

impl BaseFile {
    /// Opens the file at `path`, or creates it.
    ///
    /// # Errors
    /// `IO`; `RESUME_MISMATCH` when the file is of another base, text or setting; `OUTPUT_LOCKED`.
    pub(crate) fn open(path: &Path, identity: &str) -> Result<Self, Failure> {
        let io = |err: std::io::Error| Failure::io(path, "cannot open the base's file", &err);
        if let Some(folder) = path.parent().filter(|folder| *folder != Path::new("")) {
            fs::create_dir_all(folder).map_err(io)?;
        }
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            let what = "another process writes the file";
            return Err(Failure::input(Code::OutputLocked, what, "wait for it").at(path));
        }
        let head = format!("{MAGIC}{identity}\n");
        let len = file.metadata().map_err(io)?.len();
        let mut this = Self { file, path: path.to_owned(), records: Vec::new(), end: head.len() as u64 };
        let mut line = Vec::new();
        BufReader::new(&this.file).take(LINE_MAX).read_until(b'\n', &mut line).map_err(io)?;
        // Empty, or a run was killed while it wrote the line.
        if line.len() as u64 == len && len < head.len() as u64 && head.as_bytes().starts_with(&line) {
            this.file.seek(SeekFrom::Start(0)).and_then(|_| this.file.write_all(head.as_bytes())).map_err(io)?;
            return Ok(this);
        }
        if line != head.as_bytes() {
            let what = if line.starts_with(MAGIC.as_bytes()) {
                "the file is of another base, text or setting"
            } else {
                "the file was not written by `eval --base-file`"
            };
            return Err(Failure::input(Code::ResumeMismatch, what, "give another --base-file, or delete it").at(path));
        }
        this.find_records(len)?;
        this.file.set_len(this.end).map_err(io)?;
        Ok(this)
    }

    /// Finds whole records up to the end of the file.
    fn find_records(&mut self, len: u64) -> Result<(), Failure> {
        while let Some(size) = self.record_at(self.end, len)? {
            self.records.push((self.end + 4, size));
            self.end += 8 + size as u64;
        }
        Ok(())
    }

    /// Returns the size of the record at byte `at`; `None` when it is incomplete or damaged.
    fn record_at(&mut self, at: u64, len: u64) -> Result<Option<usize>, Failure> {
        if at + 8 > len {
            return Ok(None);
        }
        let head = self.bytes(at, 4)?;
        let size = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if at + 8 + size as u64 > len {
            return Ok(None);
        }
        let all = self.bytes(at + 4, size + 4)?;
        let (contents, sum) = all.split_at(size);
        Ok((sum == crc32fast::hash(contents).to_le_bytes()).then_some(size))
    }

    fn bytes(&mut self, at: u64, n: usize) -> Result<Vec<u8>, Failure> {
        let mut bytes = vec![0; n];
        let read = self.file.seek(SeekFrom::Start(at)).and_then(|_| self.file.read_exact(&mut bytes));
        read.map_err(|err| Failure::io(&self.path, "cannot read the base's file", &err))?;
        Ok(bytes)
    }

    /// Bytes of the file.
    pub(crate) fn len(&self) -> u64 {
        self.end
    }

    /// Number of chunks in the file.
    pub(crate) fn chunks(&self) -> usize {
        self.records.len()
    }

    /// Returns the contents of the record of a chunk.
    pub(crate) fn read(&mut self, chunk: usize) -> Result<Vec<u8>, Failure> {
        match self.records.get(chunk) {
            Some((at, size)) => self.bytes(*at, *size),
            None => Err(self.damaged(chunk)),
        }
    }

    /// Creates the error about a record that cannot be decoded.
    pub(crate) fn damaged(&self, chunk: usize) -> Failure {
        let what = format!("the record of chunk {} is damaged", chunk + 1);
        Failure::input(Code::ResumeMismatch, what, "delete the file; the same command makes it again").at(&self.path)
    }

    /// Adds the record of the next chunk.
    pub(crate) fn add(&mut self, contents: &[u8]) -> Result<(), Failure> {
        let io = |err: std::io::Error| Failure::io(&self.path, "cannot write the base's file", &err);
        let size = u32::try_from(contents.len()).map_err(|_| io(std::io::ErrorKind::FileTooLarge.into()))?;
        let sum = crc32fast::hash(contents).to_le_bytes();
        let record = [&size.to_le_bytes(), contents, &sum].concat();
        self.file.seek(SeekFrom::Start(self.end)).and_then(|_| self.file.write_all(&record)).map_err(io)?;
        self.records.push((self.end + 4, contents.len()));
        self.end += record.len() as u64;
        Ok(())
    }

    /// Deletes the file.
    pub(crate) fn delete(self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::BaseFile;
    use crate::error::Code;

    #[test]
    fn whole_records_survive_and_another_identity_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/base");
        let mut file = BaseFile::open(&path, "one").unwrap();
        file.add(b"first").unwrap();
        file.add(&[7; 100]).unwrap();
        drop(file);
        let whole = std::fs::read(&path).unwrap();
        let head = "tulu-quant base one\n".len();
        for len in head..=whole.len() {
            std::fs::write(&path, &whole[..len]).unwrap();
            let mut file = BaseFile::open(&path, "one").unwrap();
            let kept = usize::from(len >= head + 13) + usize::from(len >= head + 13 + 108);
            assert_eq!(file.chunks(), kept, "{len}");
            if kept == 1 {
                file.add(&[7; 100]).unwrap();
                assert_eq!(std::fs::read(&path).unwrap(), whole);
            }
        }
        let mut file = BaseFile::open(&path, "one").unwrap();
        assert_eq!(file.read(0).unwrap(), b"first");
        assert!(file.read(2).is_err());
        drop(file);
        let refused = |path| BaseFile::open(path, "two").map_err(|failure| failure.code).err();
        assert_eq!(refused(&path), Some(Code::ResumeMismatch));
        std::fs::write(&path, "my notes").unwrap();
        assert_eq!(refused(&path), Some(Code::ResumeMismatch));
        assert_eq!(std::fs::read(&path).unwrap(), b"my notes");
    }
}
