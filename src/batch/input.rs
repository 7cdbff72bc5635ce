//! The input: a file, or stdin put aside in one, and the records in it, one at a time, so that memory stays flat however
//! long it is. How records are told apart is in `lines` and `array`, what they say in the formats.

use super::array::Array;
use super::lines;
use crate::error::Failure;
use crate::hex::hex;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The longest record that is read. A prompt that fills the window of any Tulu model takes a hundredth of it.
pub(crate) const MAX_RECORD: usize = 16 << 20;
/// As much as a format is guessed from.
const HEAD: u64 = 1 << 16;

/// What a record is known by from run to run: a hash of its bytes, and of how often the same bytes came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key(pub(crate) [u8; 16]);

impl Key {
    fn new(digest: [u8; 16], nth: u32) -> Self {
        if nth == 0 {
            return Self(digest);
        }
        Self(short(Sha256::new().chain_update(digest).chain_update(nth.to_le_bytes())))
    }
}

/// What was in an input, to know it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    /// Of all its bytes, in hexadecimal.
    pub(crate) sha256: String,
    /// One for each record, in order; no two are the same.
    pub(crate) keys: Vec<Key>,
}

impl Contents {
    /// Records.
    pub(crate) fn len(&self) -> u64 {
        self.keys.len() as u64
    }
}

/// How the records of an input are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One on each line.
    Lines,
    /// They are the elements of one JSON array.
    Array,
}

/// A record as it stands in the input.
#[derive(Debug)]
pub(crate) struct Item<'a> {
    /// Its place among the records, from 1.
    pub(crate) number: u64,
    /// The line it begins on, from 1.
    pub(crate) line: u64,
    /// What it is known by.
    pub(crate) key: Key,
    /// Its bytes; `None` when there are more than [`MAX_RECORD`].
    pub(crate) bytes: Option<&'a [u8]>,
}

/// Where records come from: it can be read more than once.
#[derive(Debug)]
pub(crate) struct Source {
    path: PathBuf,
    /// Stdin, put aside in a file without a name, which ends with the process however it ends.
    spool: Option<File>,
}

impl Source {
    /// A regular file: it is read twice, so a pipe would not do.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        // Looked at before it is opened: opening a pipe would wait for a writer.
        let about = fs::metadata(path).map_err(|err| Failure::io(path, "cannot open", &err))?;
        if !about.is_file() {
            let fix = "save the records to a file first, or give them on stdin with -i -";
            return Err(Failure::input("INPUT", "is not a regular file", fix).at(path));
        }
        Ok(Self { path: path.to_owned(), spool: None })
    }

    /// All of stdin, put aside in `folder`.
    pub(crate) fn stdin(folder: &Path) -> Result<Self, Failure> {
        let failed = |err: io::Error| Failure::io(folder, "cannot put stdin aside", &err);
        let mut spool = tempfile::tempfile_in(folder).map_err(failed)?;
        io::copy(&mut io::stdin().lock(), &mut spool).map_err(failed)?;
        Ok(Self { path: PathBuf::from("-"), spool: Some(spool) })
    }

    /// The path, `-` for stdin.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// How it begins.
    pub(crate) fn head(&self) -> Result<Vec<u8>, Failure> {
        let mut head = Vec::new();
        let read = self.reader()?.take(HEAD).read_to_end(&mut head);
        read.map_err(|err| Failure::io(&self.path, "cannot read", &err))?;
        Ok(head)
    }

    /// Its records, from the first.
    pub(crate) fn items(&self, shape: Shape) -> Result<Items, Failure> {
        let reader = Hashing { inner: self.reader()?, hash: Sha256::new() };
        Ok(Items {
            path: self.path.clone(),
            reader: BufReader::with_capacity(1 << 16, reader),
            array: (shape == Shape::Array).then(Array::default),
            buffer: Buffer::default(),
            seen: HashMap::new(),
            number: 0,
            line: 1,
        })
    }

    /// One reader at a time: those of a spool share its position.
    fn reader(&self) -> Result<File, Failure> {
        let open = || match &self.spool {
            None => File::open(&self.path),
            Some(spool) => {
                let mut file = spool.try_clone()?;
                file.seek(SeekFrom::Start(0))?;
                Ok(file)
            }
        };
        open().map_err(|err| Failure::io(&self.path, "cannot open", &err))
    }
}

/// An input being read.
pub(crate) struct Items {
    path: PathBuf,
    reader: BufReader<Hashing>,
    array: Option<Array>,
    buffer: Buffer,
    /// How often the same bytes came so far.
    seen: HashMap<[u8; 16], u32>,
    number: u64,
    line: u64,
}

impl Items {
    /// The next record.
    pub(crate) fn next(&mut self) -> Result<Option<Item<'_>>, Failure> {
        self.buffer.clear();
        let line = match &mut self.array {
            None => lines::next(&mut self.reader, &mut self.buffer, &mut self.line),
            Some(array) => array.next(&mut self.reader, &mut self.buffer, &mut self.line),
        };
        let line = line.map_err(|err| match err.kind() {
            io::ErrorKind::InvalidData => {
                let fix = "mend the file, or give the records one a line";
                Failure::input("INPUT_JSON", err.to_string(), fix).at(&self.path)
            }
            _ => Failure::io(&self.path, "cannot read", &err),
        })?;
        let Some(line) = line else { return Ok(None) };
        self.number += 1;
        let digest = short(std::mem::take(&mut self.buffer.hash));
        let nth = self.seen.entry(digest).or_default();
        let key = Key::new(digest, *nth);
        *nth += 1;
        let bytes = self.buffer.fits.then_some(self.buffer.bytes.as_slice());
        let bytes =
            bytes.map(|bytes| if line == 1 { bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes) } else { bytes });
        Ok(Some(Item { number: self.number, line, key, bytes }))
    }

    /// Reads all records and says what the whole input was.
    pub(crate) fn contents(mut self) -> Result<Contents, Failure> {
        let mut keys = Vec::new();
        while let Some(item) = self.next()? {
            keys.push(item.key);
        }
        Ok(Contents { sha256: self.sha256(), keys })
    }

    /// Of everything, when the last record was read.
    pub(crate) fn sha256(self) -> String {
        hex(&self.reader.into_inner().hash.finalize())
    }
}

/// The bytes of one record.
#[derive(Debug)]
pub(super) struct Buffer {
    pub(super) bytes: Vec<u8>,
    fits: bool,
    hash: Sha256,
}

impl Default for Buffer {
    fn default() -> Self {
        Self { bytes: Vec::new(), fits: true, hash: Sha256::new() }
    }
}

impl Buffer {
    /// Takes more bytes of the record in; beyond [`MAX_RECORD`] they only count for its hash.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.fits = self.fits && self.bytes.len() + bytes.len() <= MAX_RECORD;
        if self.fits {
            self.bytes.extend_from_slice(bytes);
        }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(1 << 16);
        self.fits = true;
        self.hash = Sha256::new();
    }
}

/// A file whose bytes are hashed as they are read.
struct Hashing {
    inner: File,
    hash: Sha256,
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hash.update(&buffer[..n]);
        Ok(n)
    }
}

/// The first half of a hash.
pub(super) fn short(hash: Sha256) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&hash.finalize()[..16]);
    half
}

#[cfg(test)]
mod tests;
