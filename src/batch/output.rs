//! Where results go: what takes them while a run goes on ([`Results`]), and how a whole output is written, by a run, by a
//! merge, or on stdout. What a record says is the format's affair.

use super::files::{beside, folder};
use super::format::{Format, Rank};
use super::input::{Key, Shape, hex};
use super::shard::Shard;
use crate::error::Failure;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// A finished record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done<'a> {
    /// Its place in the input, from 1.
    pub(crate) number: u64,
    /// What it is known by.
    pub(crate) key: Key,
    /// It was answered, not refused.
    pub(crate) ok: bool,
    /// Tokens of its prompts and of its answers.
    pub(crate) tokens: (u64, u64),
    /// The output record.
    pub(crate) record: &'a Value,
}

/// What takes the results of a run.
pub(crate) trait Results {
    /// Whether the record was answered; `None`: it is not finished.
    fn get(&self, key: Key) -> Option<bool>;
    /// Takes a result in.
    fn put(&mut self, done: &Done<'_>) -> Result<(), Failure>;
    /// Finished records.
    fn len(&self) -> u64;
    /// Makes sure that what was taken is kept.
    fn sync(&mut self) -> Result<(), Failure>;
    /// Whether nobody takes results any more.
    fn closed(&self) -> bool;
}

/// The frame around output records: an array's brackets and commas, or lines; and their order.
#[derive(Debug)]
struct Frame {
    format: Format,
    array: bool,
    n: u64,
    /// Records of a format with an order of its own, kept until all are there.
    ranked: Vec<(Rank, Vec<u8>)>,
}

impl Frame {
    fn new(format: Format, output: &Path) -> Self {
        Self { format, array: format.output_shape(output) == Shape::Array, n: 0, ranked: Vec::new() }
    }

    fn put(&mut self, record: &[u8], out: &mut impl Write) -> io::Result<()> {
        match self.format.rank(record) {
            Some(rank) => self.ranked.push((rank, record.to_owned())),
            None => self.write(record, out)?,
        }
        Ok(())
    }

    fn write(&mut self, record: &[u8], out: &mut impl Write) -> io::Result<()> {
        if self.array {
            out.write_all(if self.n == 0 { b"[\n" } else { b",\n" })?;
        }
        self.n += 1;
        out.write_all(record)?;
        if self.array { Ok(()) } else { out.write_all(b"\n") }
    }

    fn end(&mut self, out: &mut impl Write) -> io::Result<()> {
        let mut ranked = std::mem::take(&mut self.ranked);
        ranked.sort();
        for (_, record) in ranked {
            self.write(&record, out)?;
        }
        match (self.array, self.n) {
            (false, _) => Ok(()),
            (true, 0) => out.write_all(b"[]\n"),
            (true, _) => out.write_all(b"\n]\n"),
        }
    }
}

/// What an output turned out to be.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    /// Of its bytes, in hexadecimal.
    pub(crate) sha256: String,
    /// Where refusals are, if they are not in the output itself and there are some.
    pub(crate) errors: Option<PathBuf>,
}

/// An output file being written: whole or absent.
#[derive(Debug)]
pub(crate) struct Output {
    path: PathBuf,
    partial: PathBuf,
    out: BufWriter<Hashing>,
    frame: Frame,
    errors_path: PathBuf,
    errors: Vec<u8>,
}

impl Output {
    /// Begins the output at `path`, which is not touched before [`Output::finish`].
    pub(crate) fn create(path: &Path, format: Format) -> Result<Self, Failure> {
        let partial = beside(path, ".", ".partial")?;
        let file = File::create(&partial).map_err(|err| Failure::io(path, "cannot write", &err))?;
        Ok(Self {
            path: path.to_owned(),
            partial,
            out: BufWriter::new(Hashing { inner: file, hash: Sha256::new() }),
            frame: Frame::new(format, path),
            errors_path: beside(path, "", ".errors")?,
            errors: Vec::new(),
        })
    }

    /// Takes the next record in: in the order of the input, unless the format has its own.
    pub(crate) fn put(&mut self, ok: bool, record: &[u8]) -> Result<(), Failure> {
        if !ok && self.frame.format.errors_apart() {
            self.errors.extend_from_slice(record);
            self.errors.push(b'\n');
            return Ok(());
        }
        self.frame.put(record, &mut self.out).map_err(|err| Failure::io(&self.path, "cannot write", &err))
    }

    /// Gives the output its name.
    pub(crate) fn finish(mut self) -> Result<Written, Failure> {
        let failed = |path: &Path, err: &io::Error| Failure::io(path, "cannot write", err);
        self.frame.end(&mut self.out).map_err(|err| failed(&self.path, &err))?;
        self.out.flush().map_err(|err| failed(&self.path, &err))?;
        let sha256 = hex(&std::mem::take(&mut self.out.get_mut().hash).finalize());
        self.out.get_ref().inner.sync_all().map_err(|err| failed(&self.path, &err))?;
        let errors = match self.errors.is_empty() {
            // Those of an earlier run are mended.
            true => fs::remove_file(&self.errors_path).map(|()| None).or_else(|err| match err.kind() {
                io::ErrorKind::NotFound => Ok(None),
                _ => Err(failed(&self.errors_path, &err)),
            })?,
            false => {
                write_whole(&self.errors_path, &self.errors)?;
                Some(self.errors_path.clone())
            }
        };
        fs::rename(&self.partial, &self.path).map_err(|err| failed(&self.path, &err))?;
        sync_folder(&self.path).map_err(|err| failed(&self.path, &err))?;
        Ok(Written { sha256, errors })
    }
}

impl Drop for Output {
    /// After [`Output::finish`] there is nothing left of this name.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.partial);
    }
}

/// A small file, whole or absent.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let partial = beside(path, ".", ".partial")?;
    let write = || -> io::Result<()> {
        let mut file = File::create(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, path)?;
        sync_folder(path)
    };
    write().map_err(|err| {
        let _ = fs::remove_file(&partial);
        Failure::io(path, "cannot write", &err)
    })
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder(path))?.sync_all()
}

/// A file whose bytes are hashed as they are written.
#[derive(Debug)]
struct Hashing {
    inner: File,
    hash: Sha256,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.hash.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Results on stdout: in the order of the input, each as soon as all before it are there. Nothing is kept, so there is no
/// going on after an interruption.
pub(crate) struct Stream<W> {
    out: W,
    frame: Frame,
    shard: Shard,
    next: u64,
    early: BTreeMap<u64, (bool, String)>,
    finished: u64,
    failed: u64,
    /// Refusals that do not go into the output.
    apart: Vec<String>,
    closed: bool,
}

impl<W: Write> Stream<W> {
    /// `shard`: whose records come.
    pub(crate) fn new(out: W, format: Format, shard: Shard) -> Self {
        Self {
            out,
            frame: Frame::new(format, Path::new("-")),
            shard,
            next: 0,
            early: BTreeMap::new(),
            finished: 0,
            failed: 0,
            apart: Vec::new(),
            closed: false,
        }
    }

    /// How many records are refusals.
    pub(crate) fn failed(&self) -> u64 {
        self.failed
    }

    /// Writes what is left; gives the refusals that are not in the output.
    pub(crate) fn finish(mut self) -> Result<Vec<String>, Failure> {
        let ended = self.frame.end(&mut self.out).and_then(|()| self.out.flush());
        self.check(ended)?;
        Ok(self.apart)
    }

    fn check(&mut self, written: io::Result<()>) -> Result<(), Failure> {
        match written {
            // A reader that left (`| head`) is no error.
            Err(err) if err.kind() == io::ErrorKind::BrokenPipe => self.closed = true,
            Err(err) => {
                let what = format!("cannot write the output: {err}");
                return Err(Failure::machine("STDOUT", what, "check where it goes"));
            }
            Ok(()) => {}
        }
        Ok(())
    }
}

impl<W: Write> Results for Stream<W> {
    fn get(&self, _: Key) -> Option<bool> {
        None
    }

    fn put(&mut self, done: &Done<'_>) -> Result<(), Failure> {
        self.finished += 1;
        self.failed += u64::from(!done.ok);
        self.early.insert(self.shard.place(done.number), (done.ok, done.record.to_string()));
        while let Some((ok, record)) = self.early.remove(&self.next) {
            self.next += 1;
            if !ok && self.frame.format.errors_apart() {
                self.apart.push(record);
                continue;
            }
            let written = self.frame.put(record.as_bytes(), &mut self.out).and_then(|()| self.out.flush());
            self.check(written)?;
        }
        Ok(())
    }

    fn len(&self) -> u64 {
        self.finished
    }

    fn sync(&mut self) -> Result<(), Failure> {
        let written = self.out.flush();
        self.check(written)
    }

    fn closed(&self) -> bool {
        self.closed
    }
}

#[cfg(test)]
mod tests {
    use super::{Done, Format, Key, Output, Results as _, Shard, Stream};
    use serde_json::json;
    use std::fs;

    fn stream(format: Format, numbers: &[u64]) -> (String, Vec<String>) {
        let mut out = Vec::new();
        let mut stream = Stream::new(&mut out, format, Shard::WHOLE);
        for number in numbers {
            let record = json!({"question_id": 100 - number});
            let ok = *number != 2;
            stream.put(&Done { number: *number, key: Key([0; 16]), ok, tokens: (0, 0), record: &record }).unwrap();
        }
        let apart = stream.finish().unwrap();
        (String::from_utf8(out).unwrap(), apart)
    }

    #[test]
    fn a_stream_keeps_the_order_of_the_input_or_of_the_format() {
        let line = |n: u64| format!("{{\"question_id\":{}}}", 100 - n);
        let lines = |list: &[u64]| list.iter().map(|n| line(*n) + "\n").collect::<String>();
        assert_eq!(stream(Format::Openai, &[2, 3, 1]).0, lines(&[1, 2, 3]));
        assert_eq!(stream(Format::MtBench, &[2, 3, 1]), (lines(&[3, 1]), vec![line(2)]));
        assert_eq!(stream(Format::AlpacaEval, &[1, 3, 2]).0, format!("[\n{},\n{}\n]\n", line(1), line(3)));
        assert_eq!(stream(Format::AlpacaEval, &[]).0, "[]\n");
        assert_eq!(stream(Format::Text, &[]).0, "");
    }

    #[test]
    fn a_file_is_whole_or_absent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.json");
        let mut output = Output::create(&path, Format::AlpacaEval).unwrap();
        output.put(true, b"{\"a\":1}").unwrap();
        output.put(false, b"{\"b\":1}").unwrap();
        assert!(!path.exists());
        let written = output.finish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "[\n{\"a\":1}\n]\n");
        assert_eq!(fs::read_to_string(written.errors.unwrap()).unwrap(), "{\"b\":1}\n");
        assert_eq!(written.sha256, super::hex(&<sha2::Sha256 as sha2::Digest>::digest(fs::read(&path).unwrap())));

        drop(Output::create(&path, Format::AlpacaEval).unwrap());
        let output = Output::create(&path, Format::AlpacaEval).unwrap();
        assert!(output.finish().unwrap().errors.is_none());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "old errors and partial files are gone");
    }
}
