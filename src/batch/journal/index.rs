//! Reads the journal of an earlier run and finds the lines that are records of this run. Damaged lines are skipped and
//! counted. Nothing is written here.

use super::line::{self, Header, Line, MAGIC, NoHeader, VERSION};
use crate::batch::identity::Identity;
use crate::batch::record_key::Key;
use crate::error::{Code, Failure};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// A finished record, and the position of its output record in the journal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Byte offset of the output record.
    pub(super) offset: u64,
    /// Bytes of the output record.
    pub(super) len: u32,
    /// Tokens of its prompts and of its answers.
    pub(super) tokens: (u32, u32),
    /// True if it was answered, false if it failed.
    pub(super) ok: bool,
    /// Whether the input has this record; set by [`super::Journal::resume`].
    pub(super) place: Place,
}

/// Whether the input has a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It was removed or changed.
    NotInInput,
    /// It belongs to another shard.
    OtherShard,
    /// It belongs to this run.
    ThisShard,
}

/// The records of a journal file.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// The last undamaged header.
    pub(super) header: Option<Header>,
    /// The finished records.
    pub(super) entries: HashMap<Key, Entry>,
    /// Byte offset of the end of the last complete line.
    pub(super) end: u64,
    /// Bytes of an incomplete last line, after `end`.
    pub(super) torn: u64,
    /// Lines that are neither a header nor a record.
    damaged: u64,
    /// Records whose checksum does not match the last header: (byte offset, length). They can be of another run, or of
    /// this run if its header is damaged.
    doubtful: Vec<(u64, usize)>,
    /// Initial value of the checksums of records, from the last header.
    seed: u32,
}

impl Index {
    /// Reads the file at `path`. With `restart`, a header of another version is not an error.
    pub(super) fn read(path: &Path, restart: bool) -> Result<Self, Failure> {
        let failed = |err: io::Error| Failure::io(path, "cannot read", &err);
        let mut index = Self::default();
        let mut reader = BufReader::new(File::open(path).map_err(failed)?);
        let (mut line, mut ours) = (Vec::new(), false);
        loop {
            line.clear();
            let n = reader.read_until(b'\n', &mut line).map_err(failed)?;
            let Some(whole) = line.strip_suffix(b"\n") else {
                // After a power failure the last line can consist of zeros.
                let begun = |bytes: &[u8]| bytes.starts_with(MAGIC.as_bytes()) || MAGIC.as_bytes().starts_with(bytes);
                ours |= index.end == 0 && (begun(&line) || line.iter().all(|byte| *byte == 0));
                index.torn = n as u64;
                break;
            };
            ours |= index.add_line(whole, path, restart)?;
            index.end = index.end.saturating_add(n as u64);
        }
        if ours {
            return Ok(index);
        }
        let fix = "move it away, or give another -o";
        Err(Failure::input(Code::Journal, "is not a journal of tulu-quant", fix).at(path))
    }

    /// Discards all records and the damage, but keeps `end`, the length of the complete lines.
    pub(super) fn discard(&mut self) {
        *self = Self { end: self.end, ..Self::default() };
    }

    /// Number of damaged lines.
    pub(super) fn n_damaged(&self) -> u64 {
        self.damaged.saturating_add(self.doubtful.len() as u64)
    }

    /// True if no record is certainly of this run, but some records may be.
    pub(super) fn is_lost(&self) -> bool {
        self.header.is_none() && self.entries.is_empty() && !self.doubtful.is_empty()
    }

    /// Indexes a complete line at byte offset `end`; returns true if it shows that the file is a journal.
    fn add_line(&mut self, line: &[u8], path: &Path, restart: bool) -> Result<bool, Failure> {
        // A power failure can replace the previous lines with zeros.
        let zeros = line.iter().take_while(|byte| **byte == 0).count();
        let (line, start) = (&line[zeros..], self.end.saturating_add(zeros as u64));
        if line.starts_with(MAGIC.as_bytes()) {
            match Header::parse(line) {
                Ok(header) => {
                    // A new header follows a changed input or --retry-errors: earlier failed records do not count.
                    self.entries.retain(|_, entry| entry.ok);
                    self.seed = line::seed(&header.run);
                    self.header = Some(header);
                }
                Err(NoHeader::Version(version)) if !restart && self.end == 0 => {
                    let what = format!("is of version {version}, and this program writes version {VERSION}");
                    let fix = "finish it with the version that began it, give --restart to discard it, or another -o";
                    return Err(Failure::input(Code::Journal, what, fix).at(path));
                }
                Err(_) => self.damaged = self.damaged.saturating_add(1),
            }
            return Ok(true);
        }
        let Some(read) = Line::parse(line) else {
            self.damaged = self.damaged.saturating_add(1);
            return Ok(false);
        };
        if self.header.is_some() && read.is_of(self.seed) {
            self.add_record(start, line.len(), &read)?;
        } else {
            self.doubtful.push((start, line.len()));
        }
        Ok(true)
    }

    /// Checks the doubtful lines again: a record with the right checksum is of `run`, even if its header is damaged.
    pub(super) fn recheck(&mut self, path: &Path, run: &Identity) -> Result<(), Failure> {
        if self.doubtful.is_empty() {
            return Ok(());
        }
        let failed = |err: io::Error| Failure::io(path, "cannot read", &err);
        let mut source = File::open(path).map_err(failed)?;
        let (seed, mut bytes) = (line::seed(run), Vec::new());
        for (start, len) in std::mem::take(&mut self.doubtful) {
            bytes.resize(len, 0);
            source.seek(SeekFrom::Start(start)).map_err(failed)?;
            source.read_exact(&mut bytes).map_err(failed)?;
            match Line::parse(&bytes).filter(|line| line.is_of(seed)) {
                Some(line) => self.add_record(start, len, &line)?,
                None => self.doubtful.push((start, len)),
            }
        }
        Ok(())
    }

    /// Indexes a record whose line of `len` bytes is at byte offset `start`. The last line with a key counts.
    fn add_record(&mut self, start: u64, len: usize, line: &Line<'_>) -> Result<(), Failure> {
        let offset = start.saturating_add(len.saturating_sub(line.record.len()) as u64);
        if self.entries.get(&line.key).is_some_and(|other| other.offset > offset) {
            return Ok(());
        }
        let length = u32::try_from(line.record.len());
        let len = length.map_err(|_| Failure::input(Code::Journal, "a record has 4 GiB or more", "ask for less"))?;
        let (ok, tokens) = (line.ok, line.tokens);
        self.entries.insert(line.key, Entry { offset, len, tokens, ok, place: Place::NotInInput });
        Ok(())
    }
}
