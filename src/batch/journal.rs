//! The journal next to the output (`OUT.journal`): the finished records of a run. It is append-only, one write per
//! record, so a kill loses at most the record being written; an incomplete last line is truncated on resume. Other
//! damaged lines are skipped, and their records are answered again. A journal of another run is never changed. At the
//! end of the run, the journal's records are written to the output. Lines: `line`; reading: `index`. (The journal of
//! streaming conversions is in the `tulu_quantize` crate.)

#![warn(clippy::arithmetic_side_effects)]

mod index;
mod line;

use super::format::Format;
use super::identity::{CONTEXT_SIZE, Identity};
use super::lock::lock;
use super::manifest::Manifest;
use super::output_file::{OutputFile, WrittenOutput};
use super::paths::{beside, exists, is_folder};
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

/// Interval between two fsyncs of the journal. A power failure loses at most the work of this time.
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
    /// True until the file is truncated because the user passed --restart.
    restart: bool,
    synced: Instant,
    /// True if something was written since `synced`.
    unsynced: bool,
}

/// Totals of the finished records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Number of failed records.
    pub(crate) failed: u64,
    /// Prompt tokens.
    pub(crate) prompt_tokens: u64,
    /// Generated tokens.
    pub(crate) completion_tokens: u64,
}

impl Journal {
    /// Opens and locks the journal of `output`, or creates one. The file is not changed before [`Journal::begin`], even
    /// with `restart`, which ignores its records.
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

    /// Returns whether the journal has no line of an earlier run.
    pub(crate) fn is_new(&self) -> bool {
        self.index.end == 0
    }

    /// Returns the context size of the run that wrote the journal, in tokens.
    pub(crate) fn n_ctx(&self) -> Option<u32> {
        self.index.header.as_ref().and_then(|header| header.run.window)
    }

    /// Finds the finished records of `run`, and refuses a journal of a different run (`RESUME_MISMATCH`). Records may
    /// have been added to the input or reordered, but finished ones must be unchanged; those of other shards are
    /// ignored. Failed records are dropped on `retry` (which may also change the context size) and whenever the input
    /// changed, because their line numbers are then stale.
    pub(crate) fn resume(&mut self, run: &Identity, input: &InputIndex, retry: bool) -> Result<(), Failure> {
        let known = self.index.header.as_ref().map(|header| {
            let mut names = header.run.differences(run);
            names.retain(|name| !(retry && *name == CONTEXT_SIZE));
            if header.run.shard != run.shard {
                names.push("shard");
            }
            (names, header.input == input_id(input))
        });
        if let Some((names, _)) = known.as_ref().filter(|(names, _)| !names.is_empty()) {
            return Err(self.mismatch(&format!("{} changed", names.join(" and "))));
        }
        self.index.recheck(&self.path, run)?;
        if retry || !known.is_some_and(|(_, same_input)| same_input) {
            self.index.entries.retain(|_, entry| entry.ok);
        }
        let shard = run.shard.unwrap_or(Shard::WHOLE);
        for (number, key) in (1..).zip(&input.keys) {
            if let Some(entry) = self.index.entries.get_mut(key) {
                entry.place = if shard.has(number) { Place::ThisShard } else { Place::OtherShard };
            }
        }
        let gone = self.index.entries.values().filter(|entry| entry.place == Place::NotInInput).count();
        if gone > 0 {
            return Err(
                self.mismatch(&format!("input changed: {gone} finished records are missing from it or were changed"))
            );
        }
        self.index.entries.retain(|_, entry| entry.place == Place::ThisShard);
        Ok(())
    }

    /// Like [`Journal::resume`], then truncates an incomplete last line and writes the header of `run`, whose context
    /// size is known now. Deletes the manifest of an earlier output, because a new one will be written.
    pub(crate) fn begin(&mut self, run: &Identity, input: &InputIndex, retry: bool) -> Result<(), Failure> {
        self.resume(run, input, retry)?;
        if self.index.is_lost() && !self.restart {
            let what = "has a damaged first line, and no record of this run";
            let fix = "run the command that created it, give --restart to discard it, or another -o";
            return Err(Failure::input(Code::Journal, what, fix).at(&self.path));
        }
        if self.restart {
            (self.index.end, self.restart) = (0, false);
        }
        self.file.set_len(self.index.end).map_err(|err| Failure::io(&self.path, "cannot repair", &err))?;
        let header = Header { input: input_id(input), run: run.clone() };
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
        let what = format!("contains {} records of another run: {why}", self.index.entries.len());
        let fix =
            "restore the original input and settings, give --restart to discard the finished records, or another -o";
        Failure::input(Code::ResumeMismatch, what, fix).at(&self.path)
    }

    /// Returns the totals of all finished records.
    pub(crate) fn totals(&self) -> Totals {
        self.index.entries.values().fold(Totals::default(), |totals, entry| Totals {
            failed: totals.failed.saturating_add(u64::from(!entry.ok)),
            prompt_tokens: totals.prompt_tokens.saturating_add(u64::from(entry.tokens.0)),
            completion_tokens: totals.completion_tokens.saturating_add(u64::from(entry.tokens.1)),
        })
    }

    /// Returns the bytes of an incomplete last line, and the number of other damaged lines.
    pub(crate) fn damage(&self) -> (u64, u64) {
        (self.index.torn, self.index.n_damaged())
    }

    /// Writes the records of `keys` to the output, in this order.
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
                return Err(Failure::engine(
                    Code::Defect,
                    "internal error: a record is missing from the journal",
                    "report this",
                )
                .at(&self.path));
            };
            record.resize(entry.len as usize, 0);
            source.seek(SeekFrom::Start(entry.offset)).map_err(failed)?;
            source.read_exact(&mut record).map_err(failed)?;
            output.put(entry.ok, &record)?;
        }
        output.finish()
    }

    /// Deletes the journal, after the output was written.
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
        let saturating_u32 = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        let tokens = (saturating_u32(done.tokens.0), saturating_u32(done.tokens.1));
        let record = done.record.to_string();
        let (line, at) = line::line(self.seed, done.key, done.ok, tokens, &record);
        let offset = self.index.end.saturating_add(at as u64);
        let len = u32::try_from(record.len());
        let len =
            len.map_err(|_| Failure::input(Code::Output, "a record has 4 GiB or more", "ask for fewer completions"))?;
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
        // Writing to a deleted file succeeds, so check that the journal still exists.
        if exists(&self.path)? {
            return Ok(());
        }
        let what = "the journal was deleted";
        let fix = "do not delete the output folder during a run; start the run again";
        Err(Failure::machine(Code::OutputGone, what, fix).at(&self.path))
    }

    fn closed(&self) -> bool {
        false
    }
}

impl Drop for Journal {
    /// Deletes the journal if nothing was written.
    fn drop(&mut self) {
        if self.file.metadata().is_ok_and(|about| about.len() == 0) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn input_id(input: &InputIndex) -> InputId {
    InputId { sha256: input.sha256.clone(), records: input.len() }
}

#[cfg(test)]
mod tests;
