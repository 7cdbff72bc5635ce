//! How far a conversion is, on disk: one line for each entry, each with its own sum, so that a torn last line is seen and
//! left out. The file is locked while somebody converts.

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

/// More than the entries of any model can take.
const MAX_BYTES: u64 = 64 << 20;

/// Everything before `segment` is done and on disk.
#[derive(Clone, Debug, Default)]
pub(super) struct ResumePoint {
    pub(super) segment: usize,
    /// The sums of the file that `segment` is of, up to it.
    pub(super) checksum: RunningChecksum,
}

/// What the file says.
#[derive(Clone, Debug, Default)]
enum JournalState {
    /// Nothing yet.
    #[default]
    Nothing,
    /// Everything before the point is done.
    Until(ResumePoint),
    /// All is done and right; the outputs are being given their names. Of each its name and its number in the file
    /// system, where it has one.
    Publishing(Value),
}

/// The journal of one conversion, locked.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    head: Value,
    state: JournalState,
}

impl Journal {
    /// Opens or begins the journal at `path` of a conversion into `parts`. One that is of another conversion, or damaged,
    /// is begun anew, and what that conversion had begun is taken away; the observer is told.
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
        let mut journal = Self { path: path.to_owned(), file, head, state: JournalState::Nothing };
        match journal.read()? {
            LoadedJournal::Nothing => journal.restart()?,
            LoadedJournal::JournalState(state) => journal.state = state,
            LoadedJournal::Other(why, head) => {
                observer.note(&format!("{}: {why}; it begins anew", path.display()));
                delete_partial_files(path, &head);
                journal.restart()?;
            }
        }
        Ok(journal)
    }

    /// Where to go on, when there is something to go on from.
    pub(super) fn resume_point(&self) -> Option<ResumePoint> {
        match &self.state {
            JournalState::Until(point) if point.segment > 0 => Some(point.clone()),
            _ => None,
        }
    }

    /// Whether the outputs were being given their names.
    pub(super) fn is_publishing(&self) -> bool {
        matches!(self.state, JournalState::Publishing(_))
    }

    /// Forgets everything.
    pub(super) fn restart(&mut self) -> Result<()> {
        self.file.set_len(0).map_err(|err| self.failed(&err))?;
        self.state = JournalState::Nothing;
        self.write_line(&self.head.clone())
    }

    /// Says that everything before `point` is done and on disk: `arrived` bytes.
    pub(super) fn append_point(&mut self, point: ResumePoint, arrived: u64) -> Result<()> {
        let (sha256, crc) = point.checksum.write();
        // the bytes are for people
        self.write_line(&json!({"segment": point.segment, "arrived": arrived, "sha256": sha256, "crc": crc}))?;
        self.state = JournalState::Until(point);
        Ok(())
    }

    /// Says that all is done, right and on disk.
    pub(super) fn publish(&mut self, outputs: &[Output]) -> Result<()> {
        let number = |output: &Output| output.file().metadata().ok().as_ref().and_then(inode);
        let files: Value = outputs.iter().map(|o| (key(o.path()), json!(number(o)))).collect::<Map<_, _>>().into();
        self.write_line(&json!({"publishing": true, "files": files}))?;
        self.state = JournalState::Publishing(files);
        Ok(())
    }

    /// Whether the file that was `found` can be the output `path` that [`Self::publish`] was about.
    pub(super) fn wrote(&self, path: &Path, found: &Metadata) -> bool {
        let JournalState::Publishing(files) = &self.state else { return false };
        files.get(key(path)).and_then(Value::as_u64).is_none_or(|wrote| inode(found) == Some(wrote))
    }

    /// Takes the journal away.
    pub(super) fn remove(self) -> Result<()> {
        std::fs::remove_file(&self.path).map_err(|err| Error::io(&self.path, "remove the journal", &err))
    }

    fn write_line(&mut self, line: &Value) -> Result<()> {
        let text = line.to_string();
        let line = format!("{:08x} {text}\n", crc32fast::hash(text.as_bytes()));
        let written = self.file.seek(SeekFrom::End(0)).and_then(|_| self.file.write_all(line.as_bytes()));
        written.and_then(|()| self.file.sync_data()).map_err(|err| self.failed(&err))
    }

    fn failed(&self, err: &std::io::Error) -> Error {
        Error::io(&self.path, "write the journal", err)
    }

    fn read(&mut self) -> Result<LoadedJournal> {
        let io = |err: std::io::Error| Error::io(&self.path, "read the journal", &err);
        let mut bytes = Vec::new();
        (&self.file).take(MAX_BYTES).read_to_end(&mut bytes).map_err(io)?;
        let mut state = JournalState::Nothing;
        let mut end = 0_usize;
        let first = bytes.split_inclusive(|b| *b == b'\n').next().and_then(parse).unwrap_or_default();
        let lines = bytes.split_inclusive(|b| *b == b'\n').enumerate();
        for (number, line) in lines {
            let Some(value) = parse(line) else {
                // the last line was torn by whatever ended the run; another one is damage
                if end.saturating_add(line.len()) < bytes.len() {
                    return Ok(LoadedJournal::Other("is damaged", first));
                }
                break;
            };
            if number == 0 {
                if value != self.head {
                    let why = "is of another conversion (other types, options, files or version)";
                    return Ok(LoadedJournal::Other(why, first));
                }
            } else {
                match parse_state(&value) {
                    Some(new) => state = new,
                    None => return Ok(LoadedJournal::Other("has an entry that is none", first)),
                }
            }
            end = end.saturating_add(line.len());
        }
        if end == 0 {
            return Ok(LoadedJournal::Nothing);
        }
        self.file.set_len(end as u64).map_err(io)?;
        Ok(LoadedJournal::JournalState(state))
    }
}

enum LoadedJournal {
    Nothing,
    JournalState(JournalState),
    /// Not a journal to go on from, why, and its first line.
    Other(&'static str, Value),
}

/// Takes away the files that another conversion began and that nobody will finish: those its journal names, beside it.
fn delete_partial_files(path: &Path, head: &Value) {
    for part in head["parts"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if Path::new(part).file_name().is_some_and(|name| name == part) && part.ends_with(Output::PART) {
            // what cannot be taken away is in nobody's way
            drop(std::fs::remove_file(path.with_file_name(part)));
        }
    }
}

/// A whole line whose sum is right.
fn parse(line: &[u8]) -> Option<Value> {
    let line = line.strip_suffix(b"\n")?;
    let (sum, text) = (line.get(..8)?, line.get(9..)?);
    let sum = u32::from_str_radix(std::str::from_utf8(sum).ok()?, 16).ok()?;
    if sum != crc32fast::hash(text) { None } else { serde_json::from_slice(text).ok() }
}

fn parse_state(value: &Value) -> Option<JournalState> {
    if value.get("publishing").is_some() {
        return Some(JournalState::Publishing(value.get("files").cloned().unwrap_or_default()));
    }
    let segment = usize::try_from(value.get("segment")?.as_u64()?).ok()?;
    let crc = u32::try_from(value.get("crc")?.as_u64()?).ok()?;
    let checksum = RunningChecksum::read(value.get("sha256")?.as_str()?, crc)?;
    Some(JournalState::Until(ResumePoint { segment, checksum }))
}

/// Opens and locks the file. A lock on a file that was taken away meanwhile locks nothing, so the name is looked at again.
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
                let what = format!("another process converts {name} here");
                return Err(Error::new(Code::Locked, path, what, "wait for it, or choose another folder"));
            }
            // some network folders have no locks; then two at once is the user's to prevent
            Err(TryLockError::Error(err)) if is_unsupported(&err) => {}
            Err(TryLockError::Error(err)) => return Err(io(&err)),
        }
        if is_at(&file, path).unwrap_or(false) {
            return Ok(file);
        }
    }
}

/// What an output is called in the journal.
fn key(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// What has to be the same for a run to go on from another: the files, how they are cut, and everything that decides a
/// byte of the outputs.
pub(super) fn identity(source: &Checkpoint, plan: &Plan, remote: &RemoteCheckpoint, segments: &Segments) -> String {
    let mut all = Sha256::new();
    let mut put = |bytes: &[u8]| {
        all.update((bytes.len() as u64).to_le_bytes());
        all.update(bytes);
    };
    put(remote.place().as_bytes());
    for shard in &source.shards {
        let name = shard.path.file_name().unwrap_or_default().to_string_lossy();
        put(name.as_bytes());
        put(remote.file(&name).map_or("", |file| file.sha256.as_str()).as_bytes());
    }
    // where a header that was read now has every tensor: what an earlier run converted by another one is of no use
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
    hex(&all.finalize())
}
