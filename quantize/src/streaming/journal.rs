//! The journal of a streaming conversion: one line per entry, each with a CRC-32, so that a torn last line is detected.
//! It is locked during the conversion. (The journal of a batch is in the program's `batch/journal/`.)

#![warn(clippy::arithmetic_side_effects)]

use super::checksum::RunningChecksum;
use super::remote::RemoteCheckpoint;
use super::segments::Segments;
use crate::checkpoint::Checkpoint;
use crate::error::{Code, Error, Result};
use crate::hex::hex;
use crate::observer::Observer;
use crate::output::Output;
use crate::plan::Plan;
use crate::platform::{inode, is_at, is_unsupported};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// Limit on the length of the journal; the journal of every real model is shorter.
const MAX_BYTES: u64 = 64 << 20;

/// The point from which a run resumes: everything before `segment` is complete and on disk.
#[derive(Clone, Debug, Default)]
pub(super) struct ResumePoint {
    pub(super) segment: usize,
    /// The checksum of the current file before `segment`.
    pub(super) checksum: RunningChecksum,
}

/// The state of the conversion in the journal.
#[derive(Clone, Debug, Default)]
enum JournalState {
    /// No resume point yet.
    #[default]
    Empty,
    /// Everything before the point is complete.
    At(ResumePoint),
    /// All outputs are complete and verified, and are being renamed. The value maps their paths to inode numbers.
    Renaming(Value),
}

/// The locked journal of a conversion.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    head: Value,
    state: JournalState,
}

impl Journal {
    /// Opens or creates the journal at `path` for a conversion of `name` into the partial files `parts`. If the journal
    /// is damaged or of another conversion (another `identity`), it is restarted, the partial files that it names are
    /// deleted, and a note is added.
    pub(super) fn open(
        path: &Path,
        identity: &str,
        name: &str,
        parts: &[PathBuf],
        observer: &dyn Observer,
    ) -> Result<Self> {
        let file = lock(path, name)?;
        let mut parts: Vec<_> = parts.iter().filter_map(|part| part.file_name()?.to_str()).collect();
        parts.sort_unstable();
        let head = json!({
            "tulu_quant": "journal of a conversion, version 1", "of": name, "identity": identity, "parts": parts,
        });
        let mut journal = Self { path: path.to_owned(), file, head, state: JournalState::Empty };
        match journal.read()? {
            LoadedJournal::Empty => journal.restart()?,
            LoadedJournal::Valid(state) => journal.state = state,
            LoadedJournal::Unusable(why, head) => {
                observer.note(&format!("{}: {why}; starting over", path.display()));
                delete_partial_files(path, &head);
                journal.restart()?;
            }
        }
        Ok(journal)
    }

    /// Returns the point to resume from, if there is one.
    pub(super) fn resume_point(&self) -> Option<ResumePoint> {
        match &self.state {
            JournalState::At(point) if point.segment > 0 => Some(point.clone()),
            _ => None,
        }
    }

    /// Whether the outputs were being renamed.
    pub(super) fn is_renaming(&self) -> bool {
        matches!(self.state, JournalState::Renaming(_))
    }

    /// Restarts the journal: only its first line, which identifies the conversion, remains.
    pub(super) fn restart(&mut self) -> Result<()> {
        self.file.set_len(0).map_err(|err| self.failed(&err))?;
        self.state = JournalState::Empty;
        self.write_line(&self.head.clone())
    }

    /// Records that everything before `point` (`arrived` bytes) is complete and on disk.
    pub(super) fn append_point(&mut self, point: ResumePoint, arrived: u64) -> Result<()> {
        let (sha256, crc) = point.checksum.save();
        // `arrived` is only informational
        self.write_line(&json!({"segment": point.segment, "arrived": arrived, "sha256": sha256, "crc": crc}))?;
        self.state = JournalState::At(point);
        Ok(())
    }

    /// Records that all outputs are complete, verified and on disk.
    pub(super) fn append_renaming(&mut self, outputs: &[Output]) -> Result<()> {
        let number = |output: &Output| output.file().metadata().ok().as_ref().and_then(inode);
        let files: Value = outputs.iter().map(|o| (key(o.path()), json!(number(o)))).collect::<Map<_, _>>().into();
        self.write_line(&json!({"publishing": true, "files": files}))?;
        self.state = JournalState::Renaming(files);
        Ok(())
    }

    /// Whether a file with the metadata `found` can be the output `path` of [`Self::append_renaming`].
    pub(super) fn wrote(&self, path: &Path, found: &Metadata) -> bool {
        let JournalState::Renaming(files) = &self.state else { return false };
        files.get(key(path)).and_then(Value::as_u64).is_none_or(|wrote| inode(found) == Some(wrote))
    }

    /// Deletes the journal.
    pub(super) fn remove(self) -> Result<()> {
        std::fs::remove_file(&self.path).map_err(|err| Error::io(&self.path, "remove the journal", &err))
    }

    /// Appends a line and fsyncs the file.
    fn write_line(&mut self, line: &Value) -> Result<()> {
        let text = line.to_string();
        let line = format!("{:08x} {text}\n", crc32fast::hash(text.as_bytes()));
        let written = self.file.seek(SeekFrom::End(0)).and_then(|_| self.file.write_all(line.as_bytes()));
        written.and_then(|()| self.file.sync_data()).map_err(|err| self.failed(&err))
    }

    fn failed(&self, err: &std::io::Error) -> Error {
        Error::io(&self.path, "write the journal", err)
    }

    /// Reads the journal and truncates a torn last line.
    fn read(&mut self) -> Result<LoadedJournal> {
        let io = |err: std::io::Error| Error::io(&self.path, "read the journal", &err);
        let mut bytes = Vec::new();
        (&self.file).take(MAX_BYTES).read_to_end(&mut bytes).map_err(io)?;
        let mut state = JournalState::Empty;
        let mut end = 0_usize;
        let first = bytes.split_inclusive(|b| *b == b'\n').next().and_then(parse).unwrap_or_default();
        let lines = bytes.split_inclusive(|b| *b == b'\n').enumerate();
        for (number, line) in lines {
            let Some(value) = parse(line) else {
                // a torn last line is normal after a kill; any other invalid line is damage
                if end.saturating_add(line.len()) < bytes.len() {
                    return Ok(LoadedJournal::Unusable("is damaged", first));
                }
                break;
            };
            if number == 0 {
                if value != self.head {
                    let why = "is of a different conversion (other types, options, files or version)";
                    return Ok(LoadedJournal::Unusable(why, first));
                }
            } else {
                match parse_state(&value) {
                    Some(new) => state = new,
                    None => return Ok(LoadedJournal::Unusable("contains an invalid entry", first)),
                }
            }
            end = end.saturating_add(line.len());
        }
        if end == 0 {
            return Ok(LoadedJournal::Empty);
        }
        self.file.set_len(end as u64).map_err(io)?;
        Ok(LoadedJournal::Valid(state))
    }
}

/// The result of reading a journal.
enum LoadedJournal {
    Empty,
    Valid(JournalState),
    /// A journal that cannot be resumed: the reason, and its first line.
    Unusable(&'static str, Value),
}

/// Deletes the partial files of an abandoned conversion, which the first line of its journal names.
fn delete_partial_files(path: &Path, head: &Value) {
    for part in head["parts"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if Path::new(part).file_name().is_some_and(|name| name == part) && part.ends_with(Output::PART) {
            // ignore deletion errors
            drop(std::fs::remove_file(path.with_file_name(part)));
        }
    }
}

/// Parses a complete line with the right CRC-32.
fn parse(line: &[u8]) -> Option<Value> {
    let line = line.strip_suffix(b"\n")?;
    let (crc, text) = (line.get(..8)?, line.get(9..)?);
    let crc = u32::from_str_radix(std::str::from_utf8(crc).ok()?, 16).ok()?;
    if crc != crc32fast::hash(text) { None } else { serde_json::from_slice(text).ok() }
}

/// Reads the state from an entry.
fn parse_state(value: &Value) -> Option<JournalState> {
    if value.get("publishing").is_some() {
        return Some(JournalState::Renaming(value.get("files").cloned().unwrap_or_default()));
    }
    let segment = usize::try_from(value.get("segment")?.as_u64()?).ok()?;
    let crc = u32::try_from(value.get("crc")?.as_u64()?).ok()?;
    let checksum = RunningChecksum::restore(value.get("sha256")?.as_str()?, crc)?;
    Some(JournalState::At(ResumePoint { segment, checksum }))
}

/// Opens and locks the file. Then checks that the path is still this file, because another process may have deleted it
/// before the lock was taken.
fn lock(path: &Path, name: &str) -> Result<File> {
    let io = |err: &std::io::Error| {
        let fix = "choose a folder that can be written with -o";
        Error { fix: fix.to_owned(), ..Error::io(path, "write the journal", err) }
    };
    loop {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(|err| io(&err))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let what = format!("another process is converting {name} here");
                return Err(Error::new(Code::Locked, path, what, "wait for it, or choose another folder"));
            }
            // some network file systems have no locks
            Err(TryLockError::Error(err)) if is_unsupported(&err) => {}
            Err(TryLockError::Error(err)) => return Err(io(&err)),
        }
        if is_at(&file, path).unwrap_or(false) {
            return Ok(file);
        }
    }
}

/// The key of an output in the journal.
fn key(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Returns a hash of everything that must be equal to resume: the files, their segments, and everything that the bytes
/// of the outputs depend on.
pub(super) fn identity(source: &Checkpoint, plan: &Plan, remote: &RemoteCheckpoint, segments: &Segments) -> String {
    let mut hash = Sha256::new();
    let mut put = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    put(remote.place().as_bytes());
    for shard in &source.shards {
        let name = shard.path.file_name().unwrap_or_default().to_string_lossy();
        put(name.as_bytes());
        put(remote.file(&name).map_or("", |file| file.sha256.as_str()).as_bytes());
    }
    // the positions of the tensors: another header makes the earlier chunks useless
    for tensor in &source.tensors {
        put(format!("{tensor:?}").as_bytes());
    }
    for segment in segments.iter() {
        put(&[segment.span.start.to_le_bytes(), segment.span.end.to_le_bytes()].concat());
    }
    let mut outputs: Vec<_> = plan.outputs.iter().collect();
    outputs.sort_by_key(|output| &output.path);
    for output in outputs {
        let name = output.path.file_name().unwrap_or_default();
        put(name.as_encoded_bytes());
        put(&output.header);
        put(&output.len.to_le_bytes());
    }
    for weights in &plan.importance {
        let bytes: Vec<u8> = weights.iter().flatten().flat_map(|w| w.to_le_bytes()).collect();
        put(&bytes);
    }
    hex(&hash.finalize())
}
