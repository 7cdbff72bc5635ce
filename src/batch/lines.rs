//! The input file, one line at a time: memory stays flat however long the file is. What a line says is in `openai`.

use crate::error::Failure;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// The longest line that is read. A prompt that fills the window of any Tulu model takes a hundredth of it.
pub(crate) const MAX_LINE: usize = 16 << 20;

/// What was in a file, to know it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    /// Of all its bytes, in hexadecimal.
    pub(crate) sha256: String,
    /// Lines, the last one with or without a newline.
    pub(crate) lines: u64,
}

/// A line of the input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// Its bytes without the newline.
    Whole(&'a [u8]),
    /// It is longer than [`MAX_LINE`].
    TooLong,
}

/// A file being read.
pub(crate) struct Lines {
    path: PathBuf,
    reader: BufReader<File>,
    hash: Sha256,
    line: Vec<u8>,
    number: u64,
}

impl Lines {
    /// Opens a regular file: it is read twice, so a pipe would not do.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        // Looked at before it is opened: opening a pipe would wait for a writer.
        let about = fs::metadata(path).map_err(|err| Failure::io(path, "cannot open", &err))?;
        if !about.is_file() {
            return Err(Failure::input("INPUT", "is not a regular file", "save the records to a file first").at(path));
        }
        let file = File::open(path).map_err(|err| Failure::io(path, "cannot open", &err))?;
        Ok(Self {
            path: path.to_owned(),
            reader: BufReader::with_capacity(1 << 16, file),
            hash: Sha256::new(),
            line: Vec::new(),
            number: 0,
        })
    }

    /// The next line and its number, from 1.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Line<'_>)>, Failure> {
        self.line.clear();
        let (mut read, mut fits) = (0, true);
        loop {
            let chunk = self.reader.fill_buf().map_err(|err| Failure::io(&self.path, "cannot read", &err))?;
            let newline = chunk.iter().position(|byte| *byte == b'\n');
            let taken = newline.map_or(chunk.len(), |at| at + 1);
            if taken == 0 {
                break;
            }
            self.hash.update(&chunk[..taken]);
            let text = &chunk[..newline.unwrap_or(taken)];
            fits = fits && self.line.len() + text.len() <= MAX_LINE;
            if fits {
                self.line.extend_from_slice(text);
            }
            self.reader.consume(taken);
            read += taken;
            if newline.is_some() {
                break;
            }
        }
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        let line =
            if self.number == 1 { self.line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.line) } else { &self.line };
        Ok(Some((self.number, if fits { Line::Whole(line) } else { Line::TooLong })))
    }

    /// Reads what is left and says what the whole file was.
    pub(crate) fn contents(mut self) -> Result<Contents, Failure> {
        while self.next()?.is_some() {}
        Ok(Contents { sha256: hex(&self.hash.finalize()), lines: self.number })
    }
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::{Line, Lines, MAX_LINE};

    #[test]
    fn lines_are_told_apart_and_long_ones_skipped() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let long = "x".repeat(MAX_LINE + 1);
        std::fs::write(file.path(), format!("\u{feff}a\n\nb\r\n{long}\nlast")).unwrap();
        let mut lines = Lines::open(file.path()).unwrap();
        let mut seen = Vec::new();
        while let Some((number, line)) = lines.next().unwrap() {
            seen.push((number, if let Line::Whole(bytes) = line { bytes.to_vec() } else { b"too long".to_vec() }));
        }
        let expected = [(1, "a"), (2, ""), (3, "b\r"), (4, "too long"), (5, "last")];
        assert_eq!(seen, expected.map(|(n, s)| (n, s.as_bytes().to_vec())));
        assert_eq!(lines.contents().unwrap(), Lines::open(file.path()).unwrap().contents().unwrap());
    }

    #[test]
    fn the_hash_is_the_files() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abc").unwrap();
        let contents = Lines::open(file.path()).unwrap().contents().unwrap();
        assert_eq!(contents.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(contents.lines, 1);
        assert!(Lines::open(std::path::Path::new("/dev/null")).is_err());
    }
}
