//! The journal beside the output: what a run has finished so far. It is append-only, one write a record, so that a kill at
//! any moment loses at most the record being written: a last line without its end is cut off when the run goes on. Any
//! other damaged line costs itself, and its record is answered anew. Nothing is changed before it is known that the journal
//! is of this run. The output itself is made of it at the end, whole and in its
//! order. Its lines are in `line`, how they are read again in `read`.

#![warn(clippy::arithmetic_side_effects)]

mod index;
mod line;

use super::files::{beside, exists, is_folder, lock};
use super::format::Format;
use super::identity::{Identity, WINDOW};
use super::manifest::Manifest;
use super::output::{OutputFile, WrittenOutput};
use super::record_key::{InputIndex, Key};
use super::shard::Shard;
use super::sink::{FinishedRecord, RecordSink};
use crate::atomic_file::folder_of;
use crate::error::{Code, Failure};
use index::{Entry, Index, Place};
use line::{Header, InputId};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tulu_quantize::platform;

/// A power failure costs at most this much work: so long after a record was written it is on the disk.
const SYNC_EVERY: Duration = Duration::from_secs(2);

/// The open, locked journal of one output.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    output: PathBuf,
    file: File,
    index: Index,
    /// Initial value of the checksums of the records that are written.
    seed: u32,
    /// True until the file is truncated because of --restart.
    restart: bool,
    synced: Instant,
    /// True if something was written since `synced`.
    unsynced: bool,
}

/// Sums over the finished records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// How many are refusals.
    pub(crate) failed: u64,
    /// Tokens of the prompts.
    pub(crate) prompt_tokens: u64,
    /// Tokens of the answers.
    pub(crate) completion_tokens: u64,
}

impl Journal {
    /// Opens the journal of `output`, or makes one. What is in it stays until [`Journal::begin`], also with `restart`, which
    /// forgets it.
    pub(crate) fn open(output: &Path, restart: bool) -> Result<Self, Failure> {
        let path = beside(output, "", ".journal")?;
        if is_folder(output)? {
            return Err(Failure::input(Code::Output, "is a folder", "give the path of a file").at(output));
        }
        let file = lock(&path)?;
        let mut journal = Self {
            index: Index::default(),
            path,
            output: output.to_owned(),
            file,
            seed: 0,
            restart,
            synced: Instant::now(),
            unsynced: false,
        };
        journal.index = Index::read(&journal.path, restart)?;
        if restart {
            journal.index.discard();
        }
        Ok(journal)
    }

    /// Whether an earlier run left something in it, discarded or not.
    pub(crate) fn is_new(&self) -> bool {
        self.index.end == 0
    }

    /// The window of the run that it is of, in tokens.
    pub(crate) fn window(&self) -> Option<u32> {
        self.index.header.as_ref().and_then(|header| header.run.window)
    }

    /// Finds what is finished of `run`, and refuses a journal of another one. The input may have got more records and
    /// another order, but what is answered must be in it unchanged; what belongs to another shard now does not count. Refusals are
    /// forgotten with `retry`, which may also come with another window, and when the input is another one, because then
    /// their lines are.
    pub(crate) fn resume(&mut self, run: &Identity, contents: &InputIndex, retry: bool) -> Result<(), Failure> {
        let known = self.index.header.as_ref().map(|header| {
            let mut names = header.run.differences(run);
            names.retain(|name| !(retry && *name == WINDOW));
            if header.run.shard != run.shard {
                names.push("shard");
            }
            (names, header.input == mark(contents))
        });
        if let Some((names, _)) = known.as_ref().filter(|(names, _)| !names.is_empty()) {
            return Err(self.mismatch(&format!("{} changed", names.join(" and "))));
        }
        self.index.recheck(&self.path, run)?;
        if retry || !known.is_some_and(|(_, same_input)| same_input) {
            self.index.entries.retain(|_, entry| entry.ok);
        }
        let shard = run.shard.unwrap_or(Shard::WHOLE);
        for (number, key) in (1..).zip(&contents.keys) {
            if let Some(entry) = self.index.entries.get_mut(key) {
                entry.place = if shard.has(number) { Place::ThisShard } else { Place::OtherShard };
            }
        }
        let gone = self.index.entries.values().filter(|entry| entry.place == Place::NotInInput).count();
        if gone > 0 {
            return Err(self.mismatch(&format!("input changed: {gone} of them are not in it as they were")));
        }
        self.index.entries.retain(|_, entry| entry.place == Place::ThisShard);
        Ok(())
    }

    /// As [`Journal::resume`], and then says in the journal what run this is: from here on it is written. `run`: with its window.
    /// The manifest of an earlier output goes, because a new one is being made.
    pub(crate) fn begin(&mut self, run: &Identity, contents: &InputIndex, retry: bool) -> Result<(), Failure> {
        self.resume(run, contents, retry)?;
        if self.index.is_lost() && !self.restart {
            let what = "its first line is damaged, and no record in it is shown to be of this run";
            let fix = "run the command that began it, give --restart to discard it, or another -o";
            return Err(Failure::input(Code::Journal, what, fix).at(&self.path));
        }
        if self.restart {
            (self.index.end, self.restart) = (0, false);
        }
        self.file.set_len(self.index.end).map_err(|err| Failure::io(&self.path, "cannot repair", &err))?;
        let header = Header { input: mark(contents), run: run.clone() };
        if self.index.header.as_ref() != Some(&header) {
            self.write(header.line().as_bytes())?;
            self.sync()?;
            platform::sync_folder(&folder_of(&self.path))
                .map_err(|err| Failure::io(&self.path, "cannot write", &err))?;
            self.index.header = Some(header);
        }
        self.seed = line::seed(run);
        Manifest::remove(&self.output)
    }

    fn mismatch(&self, why: &str) -> Failure {
        let what = format!("holds {} records of another run: {why}", self.index.entries.len());
        let fix = "restore what it was, give --restart to discard them, or another -o";
        Failure::input(Code::ResumeMismatch, what, fix).at(&self.path)
    }

    /// Over all finished records.
    pub(crate) fn sums(&self) -> Totals {
        self.index.entries.values().fold(Totals::default(), |sums, entry| Totals {
            failed: sums.failed.saturating_add(u64::from(!entry.ok)),
            prompt_tokens: sums.prompt_tokens.saturating_add(u64::from(entry.tokens.0)),
            completion_tokens: sums.completion_tokens.saturating_add(u64::from(entry.tokens.1)),
        })
    }

    /// Bytes of a last line that had no end, and damaged lines in between.
    pub(crate) fn damage(&self) -> (u64, u64) {
        (self.index.torn, self.index.n_damaged())
    }

    /// Writes the output of the records `keys`, whole.
    pub(crate) fn assemble(
        &mut self,
        format: Format,
        keys: impl Iterator<Item = Key>,
    ) -> Result<WrittenOutput, Failure> {
        self.sync()?;
        let failed = |err: io::Error| Failure::io(&self.path, "cannot read", &err);
        let mut source = File::open(&self.path).map_err(failed)?;
        let mut output = OutputFile::create(&self.output, format)?;
        let mut record = Vec::new();
        for key in keys {
            let Some(entry) = self.index.entries.get(&key) else {
                return Err(
                    Failure::engine(Code::Defect, "a finished run lacks a record", "report this").at(&self.path)
                );
            };
            record.resize(entry.len as usize, 0);
            source.seek(SeekFrom::Start(entry.offset)).map_err(failed)?;
            source.read_exact(&mut record).map_err(failed)?;
            output.put(entry.ok, &record)?;
        }
        output.finish()
    }

    /// Takes the journal away: there is nothing left to do.
    pub(crate) fn remove(self) -> Result<(), Failure> {
        fs::remove_file(&self.path).map_err(|err| Failure::io(&self.path, "cannot remove", &err))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.file.write_all(bytes).map_err(|err| Failure::io(&self.path, "cannot write", &err))?;
        self.index.end = self.index.end.saturating_add(bytes.len() as u64);
        Ok(())
    }
}

impl RecordSink for Journal {
    fn get(&self, key: Key) -> Option<bool> {
        self.index.entries.get(&key).map(|entry| entry.ok)
    }

    fn put(&mut self, done: &FinishedRecord<'_>) -> Result<(), Failure> {
        let narrow = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        let tokens = (narrow(done.tokens.0), narrow(done.tokens.1));
        let record = done.record.to_string();
        let (line, at) = line::line(self.seed, done.key, done.ok, tokens, &record);
        let offset = self.index.end.saturating_add(at as u64);
        let len = u32::try_from(record.len());
        let len =
            len.map_err(|_| Failure::input(Code::Output, "a record has 4 GiB or more", "ask for fewer answers"))?;
        self.write(line.as_bytes())?;
        self.unsynced = true;
        self.index.entries.insert(done.key, Entry { offset, len, tokens, ok: done.ok, place: Place::ThisShard });
        self.settle()
    }

    fn settle(&mut self) -> Result<(), Failure> {
        if self.unsynced && self.synced.elapsed() >= SYNC_EVERY { self.sync() } else { Ok(()) }
    }

    fn len(&self) -> u64 {
        self.index.entries.len() as u64
    }

    fn sync(&mut self) -> Result<(), Failure> {
        (self.synced, self.unsynced) = (Instant::now(), false);
        self.file.sync_data().map_err(|err| Failure::io(&self.path, "cannot write", &err))?;
        // A journal in a folder that was deleted takes writes, and nobody would find them.
        if exists(&self.path)? {
            return Ok(());
        }
        let what = "the journal is gone";
        let fix = "leave the folder in place while a run goes on; run it again to begin anew";
        Err(Failure::machine(Code::OutputGone, what, fix).at(&self.path))
    }

    fn closed(&self) -> bool {
        false
    }
}

impl Drop for Journal {
    /// A run that ended before it began leaves nothing behind.
    fn drop(&mut self) {
        if self.file.metadata().is_ok_and(|about| about.len() == 0) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn mark(contents: &InputIndex) -> InputId {
    InputId { sha256: contents.sha256.clone(), records: contents.len() }
}

#[cfg(test)]
mod tests;
