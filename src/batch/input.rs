//! The input: a regular file, or stdin spooled to an unnamed temporary file, read record by record. Only the 16-byte
//! key of each record is kept in memory. `line_reader` and `json_array` find the end of a record; the formats parse it.

use super::digest::{Hashed, first_half};
use super::json_array::JsonArray;
use super::line_reader;
use super::record_buffer::RecordBuffer;
use super::record_key::{InputIndex, Key};
use crate::error::{Code, Failure};
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Bytes inspected to detect the format.
const HEAD_BYTES: u64 = 1 << 16;

/// How the records of a file are delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// One record on each line; empty lines are records too.
    Lines,
    /// One record on each line; lines with only white space are skipped.
    NonBlankLines,
    /// The elements of one JSON array.
    JsonArray,
}

/// A record as bytes.
#[derive(Debug)]
pub(crate) struct RawRecord<'a> {
    /// Its position among the records, from 1.
    pub(crate) number: u64,
    /// The line it begins on, from 1.
    pub(crate) line: u64,
    /// Its key. With [`InputFile::records`], which does not count repetitions, records of equal bytes have equal keys.
    pub(crate) key: Key,
    /// Its bytes; `None` if there are more than [`super::record_buffer::MAX_RECORD`].
    pub(crate) bytes: Option<&'a [u8]>,
}

/// An input that can be read more than once.
#[derive(Debug)]
pub(crate) struct InputFile {
    path: PathBuf,
    /// Copy of stdin in an unnamed file, which the system deletes when the process ends.
    spool: Option<File>,
}

impl InputFile {
    /// Opens a regular file. Pipes are refused, because the input is read twice.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        // Check the type first: opening a pipe would wait for a writer.
        let about = fs::metadata(path).map_err(|err| Failure::io(path, "cannot open", &err))?;
        if !about.is_file() {
            let fix = "save the records to a file first, or give them on stdin with -i -";
            return Err(Failure::input(Code::Input, "is not a regular file", fix).at(path));
        }
        Ok(Self { path: path.to_owned(), spool: None })
    }

    /// Copies all of stdin to an unnamed file in `folder`.
    pub(crate) fn stdin(folder: &Path) -> Result<Self, Failure> {
        let failed = |err: io::Error| Failure::io(folder, "cannot save stdin to a temporary file", &err);
        let mut spool = tempfile::tempfile_in(folder).map_err(failed)?;
        io::copy(&mut io::stdin().lock(), &mut spool).map_err(failed)?;
        Ok(Self { path: PathBuf::from("-"), spool: Some(spool) })
    }

    /// The path; `-` for stdin.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the first [`HEAD_BYTES`].
    pub(crate) fn head(&self) -> Result<Vec<u8>, Failure> {
        let mut head = Vec::new();
        let read = self.reader()?.take(HEAD_BYTES).read_to_end(&mut head);
        read.map_err(|err| Failure::io(&self.path, "cannot read", &err))?;
        Ok(head)
    }

    /// Reads the records from the start, with their keys in `index`.
    pub(crate) fn indexed_records(&self, framing: Framing, index: &InputIndex) -> Result<RecordReader, Failure> {
        let seen = index.repeated.iter().map(|digest| (*digest, 0)).collect();
        Ok(RecordReader { seen, ..self.records(framing)? })
    }

    /// Reads the records from the start.
    pub(crate) fn records(&self, framing: Framing) -> Result<RecordReader, Failure> {
        let reader = Hashed::new(self.reader()?);
        Ok(RecordReader {
            path: self.path.clone(),
            reader: BufReader::with_capacity(1 << 16, reader),
            array: (framing == Framing::JsonArray).then(JsonArray::default),
            skip_blank: framing == Framing::NonBlankLines,
            buffer: RecordBuffer::default(),
            seen: HashMap::new(),
            number: 0,
            line: 1,
        })
    }

    /// Only one reader at a time: all readers of a spool share its position.
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

/// Reads the records of an input one after the other.
pub(crate) struct RecordReader {
    path: PathBuf,
    reader: BufReader<Hashed<File>>,
    array: Option<JsonArray>,
    /// [`Framing::NonBlankLines`].
    skip_blank: bool,
    buffer: RecordBuffer,
    /// For each digest that occurs more than once in the input: the number of occurrences so far.
    seen: HashMap<[u8; 16], u32>,
    number: u64,
    line: u64,
}

impl RecordReader {
    /// Reads the next record; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<RawRecord<'_>>, Failure> {
        let line = loop {
            let Some(line) = self.read()? else { return Ok(None) };
            if !self.skip_blank || !self.is_blank(line) {
                break line;
            }
        };
        self.number += 1;
        let digest = first_half(std::mem::take(&mut self.buffer.hash));
        let nth = self.seen.get_mut(&digest).map_or(0, |nth| {
            *nth += 1;
            *nth - 1
        });
        let bytes = self.bytes(line);
        Ok(Some(RawRecord { number: self.number, line, key: Key::new(digest, nth), bytes }))
    }

    /// Reads one record into the buffer, and returns the line it begins on.
    fn read(&mut self) -> Result<Option<u64>, Failure> {
        self.buffer.clear();
        let line = match &mut self.array {
            None => line_reader::next(&mut self.reader, &mut self.buffer, &mut self.line),
            Some(array) => array.next(&mut self.reader, &mut self.buffer, &mut self.line),
        };
        line.map_err(|err| match err.kind() {
            io::ErrorKind::InvalidData => {
                let fix = "fix the JSON array, or put one record on each line";
                Failure::input(Code::InputJson, err.to_string(), fix).at(&self.path)
            }
            _ => Failure::io(&self.path, "cannot read", &err),
        })
    }

    /// Returns the bytes of the record on `line`, without the byte order mark that Windows programs write at the start
    /// of a file; `None` if the record is too long.
    fn bytes(&self, line: u64) -> Option<&[u8]> {
        let bytes = self.buffer.fits.then_some(self.buffer.bytes.as_slice())?;
        Some(if line == 1 { bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes) } else { bytes })
    }

    fn is_blank(&self, line: u64) -> bool {
        let text = self.bytes(line).and_then(|bytes| std::str::from_utf8(bytes).ok());
        text.is_some_and(|text| text.trim().is_empty())
    }

    /// Reads all records and returns their keys and the hash of the input.
    pub(crate) fn index(mut self) -> Result<InputIndex, Failure> {
        let mut keys = Vec::new();
        while let Some(record) = self.next()? {
            keys.push(record.key);
        }
        let mut sorted: Vec<[u8; 16]> = keys.iter().map(|key| key.0).collect();
        sorted.sort_unstable();
        let repeated: HashSet<[u8; 16]> =
            sorted.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
        let mut seen: HashMap<[u8; 16], u32> = HashMap::new();
        for key in keys.iter_mut().filter(|key| repeated.contains(&key.0)) {
            let nth = seen.entry(key.0).or_default();
            *key = Key::new(key.0, *nth);
            *nth += 1;
        }
        Ok(InputIndex { sha256: self.sha256(), keys, repeated })
    }

    /// Returns the SHA-256 of the whole input, in hexadecimal. Call it after the last record.
    pub(crate) fn sha256(self) -> String {
        self.reader.into_inner().sha256()
    }
}

/// Refuses a file that begins with `head` if it is UTF-16 or UTF-32, which some Windows programs write.
pub(crate) fn check_encoding(head: &[u8]) -> Result<(), Failure> {
    let name = match head {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => "UTF-32",
        [0xff, 0xfe, rest @ ..] | [0xfe, 0xff, rest @ ..] if rest.contains(&0) => "UTF-16",
        [a, 0, b, 0, ..] | [0, a, 0, b, ..] if *a > 0 && *b > 0 => "UTF-16",
        _ => return Ok(()),
    };
    let fix = format!("save it as UTF-8, such as with iconv -f {name} -t UTF-8");
    Err(Failure::input(Code::Encoding, format!("is {name}, not UTF-8"), fix))
}

#[cfg(test)]
mod tests;
