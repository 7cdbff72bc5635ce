//! Joins the outputs of all shards. The result equals the output of one run over the whole input. The manifests are
//! used to check that the outputs belong together, that no shard is missing or duplicated, and that no output was
//! modified.

use super::format::Format;
use super::input::{Framing, InputFile, RecordReader};
use super::manifest::Manifest;
use super::output_file::{OutputFile, WrittenOutput};
use super::paths::{beside, exists};
use super::shard::Shard;
use crate::error::{Code, Failure};
use crate::sanitize::shown;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// The output of one shard.
#[derive(Debug)]
pub(crate) struct ShardOutput {
    /// Its path.
    pub(crate) path: PathBuf,
    /// Its manifest.
    pub(crate) manifest: Manifest,
    shard: Shard,
}

/// The outputs of all shards, in the order of the shards.
#[derive(Debug)]
pub(crate) struct ShardOutputs {
    /// Every shard exactly once, in order.
    pub(crate) list: Vec<ShardOutput>,
    /// Their format.
    pub(crate) format: Format,
    /// Number of records of all shards.
    pub(crate) total: u64,
}

impl ShardOutputs {
    /// Reads the manifests and checks that no shard is missing or duplicated. The outputs are read by [`Self::join`].
    pub(crate) fn open(paths: &[PathBuf]) -> Result<Self, Failure> {
        let mut parts: BTreeMap<u64, ShardOutput> = BTreeMap::new();
        for path in paths {
            let part = ShardOutput::open(path)?;
            if let Some(other) = parts.values().next() {
                part.belongs_to(other)?;
            }
            if let Some(other) = parts.get(&part.shard.index()) {
                let what = format!("is a duplicate of shard {} ({})", part.shard, shown(&other.path));
                return Err(Failure::input(Code::PartDouble, what, "give each shard once").at(path));
            }
            parts.insert(part.shard.index(), part);
        }
        let Some(first) = parts.values().next() else {
            return Err(Failure::input(Code::PartMissing, "no shard is given", "give the outputs of all shards"));
        };
        let count = first.shard.count();
        let missing: Vec<String> = (1..=count).filter(|i| !parts.contains_key(i)).map(|i| i.to_string()).collect();
        if let [one] = missing.as_slice() {
            let fix = format!("run the same command with --shard {one}/{count}, or give its output");
            return Err(Failure::input(Code::PartMissing, format!("shard {one} of {count} is missing"), fix));
        }
        if !missing.is_empty() {
            let what = format!("shards {} of {count} are missing", brief(&missing));
            return Err(Failure::input(Code::PartMissing, what, "run the missing shards, or give their outputs"));
        }
        let (format, total) = (first.manifest.format, first.manifest.input.records);
        Ok(Self { list: parts.into_values().collect(), format, total })
    }

    /// Writes all records to `output`, in the order of the input or of the format. Also returns the number of failed
    /// records.
    pub(crate) fn join(&self, output: &Path) -> Result<(WrittenOutput, u64), Failure> {
        let mut readers = self.list.iter().map(|part| part.reader(self.format)).collect::<Result<Vec<_>, _>>()?;
        let mut out = OutputFile::create(output, self.format)?;
        let mut failed = 0;
        for number in 1..=self.total {
            // Consecutive records are in consecutive shards.
            let turn = usize::try_from((number - 1) % self.list.len() as u64).unwrap_or(0);
            let reader = &mut readers[turn];
            if let Some(error) = reader.errors.remove(&number) {
                failed += 1;
                out.put(false, &error)?;
            } else if let Some(bytes) = reader.records.next()?.and_then(|item| item.bytes) {
                failed += u64::from(is_failed(bytes, self.format));
                out.put(true, bytes)?;
            } else {
                return Err(self.list[turn].changed());
            }
        }
        for (reader, part) in readers.into_iter().zip(&self.list) {
            if reader.finish()? != part.manifest.output.sha256 {
                return Err(part.changed());
            }
        }
        Ok((out.finish()?, failed))
    }

    /// Returns the sum of a number over all manifests. It saturates, because the numbers are untrusted.
    pub(crate) fn sum(&self, of: fn(&Manifest) -> u64) -> u64 {
        self.list.iter().fold(0, |sum, part| sum.saturating_add(of(&part.manifest)))
    }

    /// Returns the context size of the shards, in tokens; a shard without records has none.
    pub(crate) fn n_ctx(&self) -> Option<u32> {
        self.list.iter().find_map(|part| part.manifest.window)
    }
}

/// Reads the records of a shard's output.
struct ShardReader {
    records: RecordReader,
    /// Failed records from the separate file, by their number in the input.
    errors: HashMap<u64, Vec<u8>>,
}

impl ShardReader {
    /// Checks that no record follows and returns the SHA-256 of the output; empty if something follows.
    fn finish(mut self) -> Result<String, Failure> {
        if self.records.next()?.is_some() || !self.errors.is_empty() {
            return Ok(String::new());
        }
        Ok(self.records.sha256())
    }
}

impl ShardOutput {
    fn open(path: &Path) -> Result<Self, Failure> {
        // A finished run keeps its journal only if records failed.
        let kept = || Manifest::find(path).map(|found| found.is_some_and(|manifest| manifest.output.failed > 0));
        if exists(&beside(path, "", ".journal")?)? && !(exists(path)? && kept()?) {
            let fix = "run its command again to resume it";
            return Err(Failure::input(Code::PartUnfinished, "this shard is not finished", fix).at(path));
        }
        InputFile::open(path)?;
        let manifest = Manifest::read(path)?;
        let Some(shard) = manifest.shard else {
            let fix = "give outputs of runs with --shard I/N";
            return Err(Failure::input(Code::Part, "was written without --shard", fix).at(path));
        };
        Ok(Self { path: path.to_owned(), manifest, shard })
    }

    fn belongs_to(&self, other: &Self) -> Result<(), Failure> {
        let (ours, theirs) = (&self.manifest, &other.manifest);
        let mut differs = ours.identity().differences(&theirs.identity());
        // The name of this field in the manifest.
        differs.iter_mut().filter(|name| **name == "settings").for_each(|name| *name = "parameters");
        if (&ours.input.sha256, ours.input.records) != (&theirs.input.sha256, theirs.input.records) {
            differs.push("input");
        }
        if self.shard.count() != other.shard.count() {
            differs.push("number of shards");
        }
        if differs.is_empty() {
            return Ok(());
        }
        let what = format!("was not written by the same run as {}: {} differ", shown(&other.path), differs.join(", "));
        let fix = "give the shards of one input, written with the same model and settings";
        Err(Failure::input(Code::PartMismatch, what, fix).at(&self.path))
    }

    fn reader(&self, format: Format) -> Result<ShardReader, Failure> {
        let source = InputFile::open(&self.path)?;
        let mut errors = HashMap::new();
        if format.separates_errors() && self.manifest.output.failed != 0 {
            let path = beside(&self.path, "", ".errors")?;
            let mut records = InputFile::open(&path)?.records(Framing::Lines)?;
            while let Some(item) = records.next()? {
                let bytes = item.bytes.unwrap_or_default();
                let error: Value = serde_json::from_slice(bytes).unwrap_or_default();
                let number = error["record"].as_u64().ok_or_else(|| self.changed())?;
                errors.insert(number, bytes.to_owned());
            }
        }
        // In a format with its own order, both the output of each shard and the joined output are sorted.
        Ok(ShardReader { records: source.records(format.output_framing(&self.path))?, errors })
    }

    fn changed(&self) -> Failure {
        let what = "was modified after its run finished";
        Failure::input(Code::PartChanged, what, "restore it, or create it again").at(&self.path)
    }
}

fn is_failed(record: &[u8], format: Format) -> bool {
    !format.separates_errors()
        && serde_json::from_slice::<Value>(record).is_ok_and(|record| record.get("error").is_some_and(|e| !e.is_null()))
}

/// Formats the first few of a list.
fn brief(list: &[String]) -> String {
    const SHOWN: usize = 10;
    let more = if list.len() > SHOWN { ", …" } else { "" };
    list[..list.len().min(SHOWN)].join(", ") + more
}
