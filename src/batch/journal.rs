//! The journal beside the output: what a run has finished so far. It is append-only, one write a record, so that a kill
//! at any moment loses at most the record being written; its last, torn line is dropped when the run goes on. The output
//! itself is made of it at the end, whole and in the order of the input.
//!
//! Line 1 says what run it is (input, model, settings). Every other line is `<line>\t<ok|failed>\t<output record>`.

use super::files::{beside, folder, lock};
use crate::error::Failure;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How every journal begins; a file that does not is not ours to change.
const MAGIC: &str = "{\"tulu_quant_journal\":1,";
/// A power failure costs at most this much work.
const SYNC_EVERY: Duration = Duration::from_secs(2);

/// Where an output record lies in the journal.
#[derive(Clone, Copy, Debug)]
struct Span {
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
    records: BTreeMap<u64, Span>,
    failed: u64,
    end: u64,
    dropped: u64,
    synced: Instant,
}

impl Journal {
    /// Opens the journal of `output`, or makes one. `restart` forgets what is in it. An output that is there already is
    /// only replaced with `force`, or when a journal shows that its run did not end.
    pub(crate) fn open(output: &Path, restart: bool, force: bool) -> Result<Self, Failure> {
        let path = beside(output, "", ".journal")?;
        let file = lock(&path)?;
        let mut journal = Self {
            path,
            output: output.to_owned(),
            file,
            header: None,
            records: BTreeMap::new(),
            failed: 0,
            end: 0,
            dropped: 0,
            synced: Instant::now(),
        };
        journal.read()?;
        if restart {
            journal.truncate(0)?;
            journal.header = None;
            journal.records.clear();
            journal.failed = 0;
        }
        if output.exists() && journal.header.is_none() && !force {
            let fix = "give another -o, or --force to replace it";
            return Err(Failure::input("OUTPUT_EXISTS", "is there already", fix).at(output));
        }
        if output.is_dir() {
            return Err(Failure::input("OUTPUT", "is a folder", "give the path of a file").at(output));
        }
        Ok(journal)
    }

    /// Says what run this is: the fields of `run`. Records that are kept must come from the same run.
    pub(crate) fn begin(&mut self, run: &Value) -> Result<(), Failure> {
        let fields = run.to_string();
        let header = format!("{MAGIC}{}\n", fields.strip_prefix('{').unwrap_or(&fields));
        match &self.header {
            None => {
                self.write(header.as_bytes())?;
                self.sync()?;
                self.header = Some(header);
                Ok(())
            }
            Some(old) if *old == header => Ok(()),
            Some(old) => {
                let old: Value = serde_json::from_str(old).unwrap_or_default();
                let differs = run.as_object().into_iter().flatten().filter(|(key, value)| old.get(key) != Some(value));
                let names: Vec<&str> = differs.map(|(key, _)| key.as_str()).collect();
                Err(Failure::input(
                    "RESUME_MISMATCH",
                    format!("holds {} records of another run: {} changed", self.records.len(), names.join(" and ")),
                    "restore what it was, give --restart to discard them, or another -o",
                )
                .at(&self.path))
            }
        }
    }

    /// Whether the input's line is finished.
    pub(crate) fn has(&self, line: u64) -> bool {
        self.records.contains_key(&line)
    }

    /// Finished records.
    pub(crate) fn len(&self) -> u64 {
        self.records.len() as u64
    }

    /// How many of them are refusals.
    pub(crate) fn failed(&self) -> u64 {
        self.failed
    }

    /// Bytes of a torn record that were dropped when the journal was opened.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Writes down that a line is finished.
    pub(crate) fn append(&mut self, line: u64, ok: bool, record: &Value) -> Result<(), Failure> {
        let entry = format!("{line}\t{}\t{record}\n", if ok { "ok" } else { "failed" });
        let start = self.end;
        self.write(entry.as_bytes())?;
        self.note(start, &entry);
        if self.synced.elapsed() >= SYNC_EVERY {
            self.sync()?;
        }
        Ok(())
    }

    /// Makes sure that everything written is on the disk.
    pub(crate) fn sync(&mut self) -> Result<(), Failure> {
        self.synced = Instant::now();
        self.file.sync_data().map_err(|err| Failure::io(&self.path, "cannot write", &err))
    }

    /// Writes the output, whole and in the input's order, and takes the journal away.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        self.sync()?;
        let partial = beside(&self.output, ".", ".partial")?;
        let written = self.assemble(&partial);
        if let Err(err) = written {
            let _ = fs::remove_file(&partial);
            return Err(Failure::io(&self.output, "cannot write", &err));
        }
        fs::remove_file(&self.path).map_err(|err| Failure::io(&self.path, "cannot remove", &err))
    }

    fn assemble(&mut self, partial: &Path) -> io::Result<()> {
        let mut source = File::open(&self.path)?;
        let mut out = BufWriter::new(File::create(partial)?);
        let mut record = Vec::new();
        for span in self.records.values() {
            record.resize(span.len, 0);
            source.seek(SeekFrom::Start(span.offset))?;
            source.read_exact(&mut record)?;
            out.write_all(&record)?;
            out.write_all(b"\n")?;
        }
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(partial, &self.output)?;
        File::open(folder(&self.output))?.sync_all()
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
            if self.header.is_none() {
                if !line.starts_with(MAGIC) && !MAGIC.starts_with(line.as_str()) || line.is_empty() {
                    let fix = "move it away, or give another -o";
                    return Err(Failure::input("JOURNAL", "is not a journal of tulu-quant", fix).at(&self.path));
                }
                if !line.ends_with('\n') {
                    break;
                }
                self.header = Some(line.clone());
                self.end = line.len() as u64;
            } else if !self.note(self.end, &line) {
                break;
            } else {
                self.end += line.len() as u64;
            }
        }
        self.dropped = size - self.end;
        if self.dropped > 0 { self.truncate(self.end) } else { Ok(()) }
    }

    /// Takes a record in that lies at `start`; false if it is not whole.
    fn note(&mut self, start: u64, entry: &str) -> bool {
        let Some((line, ok, record)) = parts(entry) else { return false };
        let offset = start + (entry.len() - record.len() - 1) as u64;
        self.failed += u64::from(!ok);
        self.records.insert(line, Span { offset, len: record.len() });
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

impl Drop for Journal {
    /// A run that ended before it began leaves nothing behind.
    fn drop(&mut self) {
        if self.file.metadata().is_ok_and(|about| about.len() == 0) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The parts of a whole entry: line number, whether it was answered, output record.
fn parts(entry: &str) -> Option<(u64, bool, &str)> {
    let mut fields = entry.strip_suffix('\n')?.splitn(3, '\t');
    let line = fields.next()?.parse().ok()?;
    let ok = match fields.next()? {
        "ok" => true,
        "failed" => false,
        _ => return None,
    };
    let record = fields.next()?;
    serde_json::from_str::<serde::de::IgnoredAny>(record).ok()?;
    Some((line, ok, record))
}

#[cfg(test)]
mod tests {
    use super::Journal;
    use serde_json::{Value, json};
    use std::fs;
    use std::path::Path;

    fn run() -> Value {
        json!({"input": "i", "model": "m", "settings": {"n": 1}})
    }

    fn begun(output: &Path) -> Journal {
        let mut journal = Journal::open(output, false, false).unwrap();
        journal.begin(&run()).unwrap();
        journal
    }

    fn code<T>(result: Result<T, crate::error::Failure>) -> &'static str {
        result.map_or_else(|failure| failure.code, |_| "ok")
    }

    #[test]
    fn the_output_is_whole_and_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("out.jsonl");
        let mut journal = begun(&output);
        for line in [2, 3, 1] {
            journal.append(line, line != 3, &json!({"line": line})).unwrap();
        }
        assert!(!output.exists());
        assert_eq!((journal.len(), journal.failed()), (3, 1));
        journal.finish().unwrap();
        assert_eq!(fs::read_to_string(&output).unwrap(), "{\"line\":1}\n{\"line\":2}\n{\"line\":3}\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
        assert_eq!(code(Journal::open(&output, false, false)), "OUTPUT_EXISTS");
        assert!(Journal::open(&output, false, true).is_ok());
    }

    #[test]
    fn a_journal_cut_anywhere_keeps_the_whole_records() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("out.jsonl");
        let path = folder.path().join("out.jsonl.journal");
        let mut journal = begun(&output);
        let header = fs::read(&path).unwrap().len();
        for line in 1..=3 {
            journal.append(line, true, &json!({"text": format!("é {line}\n\t")})).unwrap();
        }
        drop(journal);
        let whole = fs::read(&path).unwrap();
        for cut in 0..=whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let mut journal = begun(&output);
            let newlines = whole[..cut].iter().filter(|byte| **byte == b'\n').count();
            assert_eq!(journal.len(), newlines.saturating_sub(1) as u64, "cut at {cut}");
            if cut >= header {
                assert_eq!(journal.dropped() == 0, whole[cut - 1] == b'\n');
            }
            for line in (1..=3).filter(|line| !journal.has(*line)).collect::<Vec<_>>() {
                journal.append(line, true, &json!({"text": format!("é {line}\n\t")})).unwrap();
            }
            drop(journal);
            assert_eq!(fs::read(&path).unwrap(), whole, "cut at {cut}");
        }
        begun(&output).finish().unwrap();
        assert_eq!(fs::read_to_string(&output).unwrap().lines().count(), 3);
    }

    #[test]
    fn another_run_does_not_go_on_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("out.jsonl");
        begun(&output).append(1, true, &json!({})).unwrap();
        let mut other = run();
        other["model"] = json!("other");
        let mut journal = Journal::open(&output, false, false).unwrap();
        let refused = journal.begin(&other).unwrap_err();
        assert_eq!(refused.code, "RESUME_MISMATCH");
        assert!(refused.what.ends_with("run: model changed"), "{}", refused.what);
        assert_eq!(code(Journal::open(&output, false, false)), "OUTPUT_LOCKED");
        drop(journal);
        let mut journal = Journal::open(&output, true, false).unwrap();
        journal.begin(&other).unwrap();
        assert_eq!(journal.len(), 0);
    }

    #[test]
    fn a_file_that_is_not_a_journal_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("out.jsonl");
        let path = folder.path().join("out.jsonl.journal");
        for other in ["my diary\n", "\n", "{}"] {
            fs::write(&path, other).unwrap();
            assert_eq!(code(Journal::open(&output, true, true)), "JOURNAL");
            assert_eq!(fs::read_to_string(&path).unwrap(), other);
        }
    }

    #[test]
    fn a_run_that_never_began_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        drop(Journal::open(&folder.path().join("out"), false, false).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!(code(Journal::open(&folder.path().join("no/out"), false, false)), "IO");
        assert_eq!(code(Journal::open(Path::new("/"), false, false)), "OUTPUT");
    }
}
