//! The journal beside the output: what a run has finished so far. It is append-only, one write a record, so that a kill
//! at any moment loses at most the record being written; its last, torn line is dropped when the run goes on. The output
//! itself is made of it at the end, whole and in its order.
//!
//! Line 1 says what run it is (input, model, settings); a later line of the same kind replaces it. Every other line is
//! `<key>\t<ok|failed>\t<prompt tokens> <answer tokens>\t<output record>`, and the last one with a key counts.

use super::files::{beside, lock};
use super::format::Format;
use super::input::{Contents, Key};
use super::output::{Done, Output, Results, Written};
use crate::error::Failure;
use crate::hex::hex;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How every journal begins; a file that does not is not ours to change.
const MAGIC: &str = "{\"tulu_quant_journal\":1,";
/// A power failure costs at most this much work.
const SYNC_EVERY: Duration = Duration::from_secs(2);

/// A finished record, and where its output record lies in the journal.
#[derive(Clone, Copy, Debug)]
struct Entry {
    ok: bool,
    tokens: (u64, u64),
    offset: u64,
    len: usize,
}

/// An open journal; nobody else has it open.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    output: PathBuf,
    file: File,
    header: Option<String>,
    entries: HashMap<Key, Entry>,
    end: u64,
    dropped: u64,
    synced: Instant,
}

/// Sums over the finished records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    /// How many are refusals.
    pub(crate) failed: u64,
    /// Tokens of the prompts.
    pub(crate) prompt_tokens: u64,
    /// Tokens of the answers.
    pub(crate) completion_tokens: u64,
}

impl Journal {
    /// Opens the journal of `output`, or makes one. `restart` forgets what is in it. An output that is there already is
    /// only replaced with `force`, or when a journal shows that its run has more to do.
    pub(crate) fn open(output: &Path, restart: bool, force: bool) -> Result<Self, Failure> {
        let path = beside(output, "", ".journal")?;
        let file = lock(&path)?;
        let mut journal = Self {
            path,
            output: output.to_owned(),
            file,
            header: None,
            entries: HashMap::new(),
            end: 0,
            dropped: 0,
            synced: Instant::now(),
        };
        journal.read()?;
        let known = journal.header.is_some();
        if restart {
            journal.truncate(0)?;
            journal.header = None;
            journal.entries.clear();
        }
        if output.exists() && !known && !force {
            let fix = "give another -o, or --force to replace it";
            return Err(Failure::input("OUTPUT_EXISTS", "is there already", fix).at(output));
        }
        if output.is_dir() {
            return Err(Failure::input("OUTPUT", "is a folder", "give the path of a file").at(output));
        }
        Ok(journal)
    }

    /// Says what run this is: the input and the fields of `run`, which decide the answers. Records are kept if they are of
    /// the same run. The input may have got more records and another order, but what is answered must be in it unchanged.
    /// Refusals are forgotten with `retry`, which may also come with another `window`, and when the input is another one,
    /// because then their lines are.
    pub(crate) fn begin(&mut self, run: &Value, contents: &Contents, retry: bool) -> Result<(), Failure> {
        let mut header = json!({"input": {"sha256": contents.sha256, "records": contents.len()}});
        if let (Some(header), Some(run)) = (header.as_object_mut(), run.as_object()) {
            header.extend(run.clone());
        }
        let fields = header.to_string();
        let line = format!("{MAGIC}{}\n", fields.strip_prefix('{').unwrap_or(&fields));
        if let Some(old) = &self.header {
            let old: Value = serde_json::from_str(old).unwrap_or_default();
            let differs = header.as_object().into_iter().flatten().filter(|(key, value)| old.get(key) != Some(value));
            let may = |key: &str| key == "input" || retry && key == "window";
            let names: Vec<&str> = differs.map(|(key, _)| key.as_str()).filter(|key| !may(key)).collect();
            if !names.is_empty() {
                return Err(self.mismatch(&format!("{} changed", names.join(" and "))));
            }
            if retry || old.get("input") != header.get("input") {
                self.entries.retain(|_, entry| entry.ok);
            }
            let here: HashSet<&Key> = contents.keys.iter().collect();
            let gone = self.entries.keys().filter(|key| !here.contains(key)).count();
            if gone > 0 {
                return Err(self.mismatch(&format!("input changed: {gone} of them are not in it as they were")));
            }
        }
        if self.header.as_ref() != Some(&line) {
            self.write(line.as_bytes())?;
            self.sync()?;
            self.header = Some(line);
        }
        Ok(())
    }

    fn mismatch(&self, why: &str) -> Failure {
        let what = format!("holds {} records of another run: {why}", self.entries.len());
        let fix = "restore what it was, give --restart to discard them, or another -o";
        Failure::input("RESUME_MISMATCH", what, fix).at(&self.path)
    }

    /// Over all finished records.
    pub(crate) fn sums(&self) -> Sums {
        self.entries.values().fold(Sums::default(), |sums, entry| Sums {
            failed: sums.failed + u64::from(!entry.ok),
            prompt_tokens: sums.prompt_tokens + entry.tokens.0,
            completion_tokens: sums.completion_tokens + entry.tokens.1,
        })
    }

    /// Bytes of a torn record that were dropped when the journal was opened.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Writes the output of the records `keys`, whole.
    pub(crate) fn assemble(&mut self, format: Format, keys: impl Iterator<Item = Key>) -> Result<Written, Failure> {
        self.sync()?;
        let failed = |err: io::Error| Failure::io(&self.path, "cannot read", &err);
        let mut source = File::open(&self.path).map_err(failed)?;
        let mut output = Output::create(&self.output, format)?;
        let mut record = Vec::new();
        for key in keys {
            let Some(entry) = self.entries.get(&key) else {
                return Err(Failure::engine("DEFECT", "a finished run lacks a record", "report this").at(&self.path));
            };
            record.resize(entry.len, 0);
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

    /// Reads what an earlier run left, up to the first line that is not whole.
    fn read(&mut self) -> Result<(), Failure> {
        let failed = |path: &Path, err: &io::Error| Failure::io(path, "cannot read", err);
        let size = self.file.metadata().map_err(|err| failed(&self.path, &err))?.len();
        let mut reader = BufReader::new(File::open(&self.path).map_err(|err| failed(&self.path, &err))?);
        let mut line = String::new();
        loop {
            line.clear();
            match reader.read_line(&mut line) {
                Ok(0) => break,
                Ok(_) => {}
                Err(err) if err.kind() == io::ErrorKind::InvalidData => line.clear(),
                Err(err) => return Err(failed(&self.path, &err)),
            }
            if self.header.is_none() && (line.is_empty() || !line.starts_with(MAGIC) && !MAGIC.starts_with(&line)) {
                let fix = "move it away, or give another -o";
                return Err(Failure::input("JOURNAL", "is not a journal of tulu-quant", fix).at(&self.path));
            }
            if line.starts_with(MAGIC) && line.ends_with('\n') {
                // The refusals before it are of another input, or were to be tried again.
                self.entries.retain(|_, entry| entry.ok);
                self.header = Some(line.clone());
            } else if self.header.is_none() || !self.note(self.end, &line) {
                break;
            }
            self.end += line.len() as u64;
        }
        self.dropped = size - self.end;
        if self.dropped > 0 { self.truncate(self.end) } else { Ok(()) }
    }

    /// Takes a record in that lies at `start`; false if it is not whole.
    fn note(&mut self, start: u64, line: &str) -> bool {
        let Some((key, ok, tokens, record)) = parts(line) else { return false };
        let offset = start + (line.len() - record.len() - 1) as u64;
        self.entries.insert(key, Entry { ok, tokens, offset, len: record.len() });
        true
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.file.write_all(bytes).map_err(|err| Failure::io(&self.path, "cannot write", &err))?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> Result<(), Failure> {
        self.file.set_len(len).map_err(|err| Failure::io(&self.path, "cannot repair", &err))?;
        self.end = len;
        Ok(())
    }
}

impl Results for Journal {
    fn get(&self, key: Key) -> Option<bool> {
        self.entries.get(&key).map(|entry| entry.ok)
    }

    fn put(&mut self, done: &Done<'_>) -> Result<(), Failure> {
        let (word, (prompt, answer)) = (if done.ok { "ok" } else { "failed" }, done.tokens);
        let line = format!("{}\t{word}\t{prompt} {answer}\t{}\n", hex(&done.key.0), done.record);
        let start = self.end;
        self.write(line.as_bytes())?;
        self.note(start, &line);
        if self.synced.elapsed() >= SYNC_EVERY {
            self.sync()?;
        }
        Ok(())
    }

    fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    fn sync(&mut self) -> Result<(), Failure> {
        self.synced = Instant::now();
        self.file.sync_data().map_err(|err| Failure::io(&self.path, "cannot write", &err))?;
        // A journal in a folder that was deleted takes writes, and nobody would find them.
        match fs::metadata(&self.path) {
            Ok(_) => Ok(()),
            Err(err) => {
                let what = format!("the journal is gone: {err}");
                let fix = "leave the folder in place while a run goes on; run it again to begin anew";
                Err(Failure::machine("OUTPUT_GONE", what, fix).at(&self.path))
            }
        }
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

/// The parts of a whole line: key, whether it was answered, tokens, output record.
fn parts(line: &str) -> Option<(Key, bool, (u64, u64), &str)> {
    let mut fields = line.strip_suffix('\n')?.splitn(4, '\t');
    let key = key(fields.next()?)?;
    let ok = match fields.next()? {
        "ok" => true,
        "failed" => false,
        _ => return None,
    };
    let (prompt, answer) = fields.next()?.split_once(' ')?;
    let tokens = (prompt.parse().ok()?, answer.parse().ok()?);
    let record = fields.next()?;
    serde_json::from_str::<serde::de::IgnoredAny>(record).ok()?;
    Some((key, ok, tokens, record))
}

fn key(digits: &str) -> Option<Key> {
    let digits = digits.as_bytes();
    if digits.len() != 32 {
        return None;
    }
    let mut key = [0; 16];
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(Key(key))
}

#[cfg(test)]
mod tests;
