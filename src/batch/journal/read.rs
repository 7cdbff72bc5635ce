//! A journal that an earlier run left: which of its lines are records of this run.

use super::line::{self, Header, Line, MAGIC, NoHeader, VERSION};
use super::{Entry, Identity, Journal, Place};
use crate::error::{Code, Failure};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

impl Journal {
    /// Reads what an earlier run left.
    pub(super) fn read(&mut self) -> Result<(), Failure> {
        let failed = |path: &Path, err: &io::Error| Failure::io(path, "cannot read", err);
        let mut reader = BufReader::new(File::open(&self.path).map_err(|err| failed(&self.path, &err))?);
        let (mut line, mut ours) = (Vec::new(), false);
        loop {
            line.clear();
            let n = reader.read_until(b'\n', &mut line).map_err(|err| failed(&self.path, &err))?;
            let Some(whole) = line.strip_suffix(b"\n") else {
                // A file that a power failure left has zeros where its last line was to be.
                let begun = |bytes: &[u8]| bytes.starts_with(MAGIC.as_bytes()) || MAGIC.as_bytes().starts_with(bytes);
                ours |= self.end == 0 && (begun(&line) || line.iter().all(|byte| *byte == 0));
                self.torn = n as u64;
                break;
            };
            ours |= self.take(whole)?;
            self.end = self.end.saturating_add(n as u64);
        }
        if ours {
            return Ok(());
        }
        let fix = "move it away, or give another -o";
        Err(Failure::input(Code::Journal, "is not a journal of tulu-quant", fix).at(&self.path))
    }

    /// Takes a whole line in, which begins at `end`; true if it shows that this is a journal.
    fn take(&mut self, line: &[u8]) -> Result<bool, Failure> {
        // The zeros of a line that a power failure took.
        let zeros = line.iter().take_while(|byte| **byte == 0).count();
        let (line, start) = (&line[zeros..], self.end.saturating_add(zeros as u64));
        if line.starts_with(MAGIC.as_bytes()) {
            match Header::parse(line) {
                Ok(header) => {
                    // The refusals before it are of another input, or were to be tried again.
                    self.entries.retain(|_, entry| entry.ok);
                    self.seed = line::seed(&header.run);
                    self.header = Some(header);
                }
                Err(NoHeader::Version(version)) if !self.restart && self.end == 0 => {
                    let what = format!("is of version {version}, and this program writes version {VERSION}");
                    let fix = "finish it with the version that began it, give --restart to discard it, or another -o";
                    return Err(Failure::input(Code::Journal, what, fix).at(&self.path));
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
            self.note(start, line.len(), &read)?;
        } else {
            self.doubtful.push((start, line.len()));
        }
        Ok(true)
    }

    /// Looks again at lines whose header is damaged: their sums show whether they are of `run`.
    pub(super) fn recheck(&mut self, run: &Identity) -> Result<(), Failure> {
        if self.doubtful.is_empty() {
            return Ok(());
        }
        let failed = |path: &Path, err: io::Error| Failure::io(path, "cannot read", &err);
        let mut source = File::open(&self.path).map_err(|err| failed(&self.path, err))?;
        let (seed, mut bytes) = (line::seed(run), Vec::new());
        for (start, len) in std::mem::take(&mut self.doubtful) {
            bytes.resize(len, 0);
            source.seek(SeekFrom::Start(start)).map_err(|err| failed(&self.path, err))?;
            source.read_exact(&mut bytes).map_err(|err| failed(&self.path, err))?;
            match Line::parse(&bytes).filter(|line| line.is_of(seed)) {
                Some(line) => self.note(start, len, &line)?,
                None => self.doubtful.push((start, len)),
            }
        }
        Ok(())
    }

    /// Takes a record in whose line of `len` bytes lies at `start`. The last line with a key counts.
    fn note(&mut self, start: u64, len: usize, line: &Line<'_>) -> Result<(), Failure> {
        let offset = start.saturating_add(len.saturating_sub(line.record.len()) as u64);
        if self.entries.get(&line.key).is_some_and(|other| other.offset > offset) {
            return Ok(());
        }
        let length = u32::try_from(line.record.len());
        let len = length.map_err(|_| Failure::input(Code::Journal, "a record has 4 GiB or more", "ask for less"))?;
        let (ok, tokens) = (line.ok, line.tokens);
        self.entries.insert(line.key, Entry { offset, len, tokens, ok, place: Place::Nowhere });
        Ok(())
    }
}
