//! The input: a file, or stdin put aside in one, and the records in it, one at a time. Of each record 16 bytes are kept, to
//! know it again. How records are told apart is in `lines` and `array`, what they say in the formats.

use super::array::Array;
use super::lines;
use crate::error::{Code, Failure};
use crate::hex::hex;
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};
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
    /// Hashes of the bytes that come more than once.
    doubled: HashSet<[u8; 16]>,
}

impl Contents {
    /// An input with the records `keys`.
    #[cfg(test)]
    pub(super) fn of(sha256: String, keys: Vec<Key>) -> Self {
        Self { sha256, keys, doubled: HashSet::new() }
    }

    /// Records.
    pub(crate) fn len(&self) -> u64 {
        self.keys.len() as u64
    }
}

/// How the records of an input are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One on each line, also on an empty one.
    Lines,
    /// One on each line; lines of nothing but white space are passed over.
    Filled,
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
    /// What it is known by; in [`Source::items`], which does not know what comes again, alike for equal bytes.
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
            return Err(Failure::input(Code::Input, "is not a regular file", fix).at(path));
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

    /// Its records, from the first, as they were when `contents` was read.
    pub(crate) fn again(&self, shape: Shape, contents: &Contents) -> Result<Items, Failure> {
        let seen = contents.doubled.iter().map(|digest| (*digest, 0)).collect();
        Ok(Items { seen, ..self.items(shape)? })
    }

    /// Its records, from the first.
    pub(crate) fn items(&self, shape: Shape) -> Result<Items, Failure> {
        let reader = Hashing { inner: self.reader()?, hash: Sha256::new() };
        Ok(Items {
            path: self.path.clone(),
            reader: BufReader::with_capacity(1 << 16, reader),
            array: (shape == Shape::Array).then(Array::default),
            filled: shape == Shape::Filled,
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
    /// [`Shape::Filled`].
    filled: bool,
    buffer: Buffer,
    /// How often bytes that come more than once came so far.
    seen: HashMap<[u8; 16], u32>,
    number: u64,
    line: u64,
}

impl Items {
    /// The next record.
    pub(crate) fn next(&mut self) -> Result<Option<Item<'_>>, Failure> {
        let line = loop {
            let Some(line) = self.read()? else { return Ok(None) };
            if !self.filled || !self.is_blank(line) {
                break line;
            }
        };
        self.number += 1;
        let digest = short(std::mem::take(&mut self.buffer.hash));
        let nth = self.seen.get_mut(&digest).map_or(0, |nth| {
            *nth += 1;
            *nth - 1
        });
        let bytes = self.bytes(line);
        Ok(Some(Item { number: self.number, line, key: Key::new(digest, nth), bytes }))
    }

    /// Reads on to the end of a record, and gives the line it begins on.
    fn read(&mut self) -> Result<Option<u64>, Failure> {
        self.buffer.clear();
        let line = match &mut self.array {
            None => lines::next(&mut self.reader, &mut self.buffer, &mut self.line),
            Some(array) => array.next(&mut self.reader, &mut self.buffer, &mut self.line),
        };
        line.map_err(|err| match err.kind() {
            io::ErrorKind::InvalidData => {
                let fix = "mend the file, or give the records one a line";
                Failure::input(Code::InputJson, err.to_string(), fix).at(&self.path)
            }
            _ => Failure::io(&self.path, "cannot read", &err),
        })
    }

    /// The bytes of the record on `line`, without the mark that Windows puts before a file.
    fn bytes(&self, line: u64) -> Option<&[u8]> {
        let bytes = self.buffer.fits.then_some(self.buffer.bytes.as_slice())?;
        Some(if line == 1 { bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes) } else { bytes })
    }

    fn is_blank(&self, line: u64) -> bool {
        let text = self.bytes(line).and_then(|bytes| std::str::from_utf8(bytes).ok());
        text.is_some_and(|text| text.trim().is_empty())
    }

    /// Reads all records and says what the whole input was.
    pub(crate) fn contents(mut self) -> Result<Contents, Failure> {
        let mut keys = Vec::new();
        while let Some(item) = self.next()? {
            keys.push(item.key);
        }
        let mut sorted: Vec<[u8; 16]> = keys.iter().map(|key| key.0).collect();
        sorted.sort_unstable();
        let doubled: HashSet<[u8; 16]> =
            sorted.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
        let mut seen: HashMap<[u8; 16], u32> = HashMap::new();
        for key in keys.iter_mut().filter(|key| doubled.contains(&key.0)) {
            let nth = seen.entry(key.0).or_default();
            *key = Key::new(key.0, *nth);
            *nth += 1;
        }
        Ok(Contents { sha256: self.sha256(), keys, doubled })
    }

    /// Of everything, when the last record was read.
    pub(crate) fn sha256(self) -> String {
        hex(&self.reader.into_inner().hash.finalize())
    }
}

/// The hash of a whole file, in hexadecimal.
pub(crate) fn sha256_of(path: &Path) -> Result<String, Failure> {
    let failed = |err: io::Error| Failure::io(path, "cannot read", &err);
    let mut file = Hashing { inner: File::open(path).map_err(failed)?, hash: Sha256::new() };
    io::copy(&mut file, &mut io::sink()).map_err(failed)?;
    Ok(hex(&file.hash.finalize()))
}

/// Refuses a file that begins with `head` where all of it is in another encoding than UTF-8, as some Windows programs save.
pub(crate) fn utf8(head: &[u8]) -> Result<(), Failure> {
    let name = match head {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => "UTF-32",
        [0xff, 0xfe, rest @ ..] | [0xfe, 0xff, rest @ ..] if rest.contains(&0) => "UTF-16",
        [a, 0, b, 0, ..] | [0, a, 0, b, ..] if *a > 0 && *b > 0 => "UTF-16",
        _ => return Ok(()),
    };
    let fix = format!("save it as UTF-8, such as with iconv -f {name} -t UTF-8");
    Err(Failure::input(Code::Encoding, format!("is {name}, not UTF-8"), fix))
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
