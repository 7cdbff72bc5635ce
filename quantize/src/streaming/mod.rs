//! Converts the weights of a remote checkpoint while they are downloaded, without storing the checkpoint.
//!
//! ```text
//! RangeSource ─► segments ─► SegmentBuffer ─┬─► SHA-256 and CRC-32, in file order
//! (HTTP is in     split at     bounded      └─► chunks ─► the workers of convert/ ─► NAME.tulu-part
//!  the program)   chunks       memory
//! ```
//!
//! Each segment is fetched once and used for both hashing and conversion. `Checkpoint::open_with` has read the headers
//! and directories, which contain the positions of the tensors; they are compared with the hashed bytes later. The
//! journal records the segments that are complete and on disk, so that the next run resumes there. The outputs get
//! their final names after the SHA-256 of every file was verified.
//!
//! Threads: the caller and `threads` − 1 workers, `connections` downloads, one for hashing, one for the journal.

mod checksum;
mod journal;
mod remote;
mod segment_buffer;
mod segments;

pub use remote::{RangeSource, RemoteCheckpoint, RemoteFile};

use crate::checkpoint::Checkpoint;
use crate::convert::{self, Chunk, ChunkConverter, ConvertOptions, Report};
use crate::error::{Code, Error, Result};
use crate::hex::hex;
use crate::observer::Observer;
use crate::output::{self, Output};
use crate::plan::{OutputPlan, Plan};
use crate::platform::write_all_at;
use crate::space;
use checksum::RunningChecksum;
use journal::{Journal, ResumePoint};
use segment_buffer::SegmentBuffer;
use segments::Segments;
use sha2::{Digest as _, Sha256};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Options of a streaming conversion.
#[derive(Clone, Debug)]
pub struct StreamOptions {
    /// Path of the journal, in the folder of the outputs. Each set of outputs needs its own.
    pub journal: PathBuf,
    /// Number of parallel requests.
    pub connections: NonZeroUsize,
    /// Approximate bytes per request.
    pub segment_bytes: u64,
    /// Maximum bytes of segments in memory.
    pub buffer_bytes: u64,
    /// Approximate bytes between journal entries. During a download, an entry is also written every two seconds.
    pub entry_bytes: u64,
}

impl StreamOptions {
    /// Returns options for `total` bytes of weights, with eight connections: segments of 8 MiB for a real model, and
    /// smaller ones (at least 256 KiB) for a small model, so that it has enough resume points.
    #[must_use]
    pub fn for_size(total: u64, journal: PathBuf) -> Self {
        let segment_bytes = (total / 256).clamp(256 << 10, 8 << 20);
        Self {
            journal,
            connections: NonZeroUsize::MIN.saturating_add(7),
            segment_bytes,
            buffer_bytes: 16 * segment_bytes,
            entry_bytes: (total / 32).clamp(segment_bytes, 128 << 20),
        }
    }
}

/// Maximum time between journal entries.
const ENTRY_INTERVAL: Duration = Duration::from_secs(2);

/// Returns the memory for segments in bytes. A streaming conversion needs it in addition to [`crate::memory_needed`].
#[must_use]
pub fn stream_memory(stream: &StreamOptions) -> u64 {
    stream.buffer_bytes + stream.segment_bytes
}

/// Returns whether [`convert_streaming`] can convert the checkpoint: false if a tensor is a non-contiguous view, or if
/// a segment would exceed 64 MiB because tensors share a large storage.
#[must_use]
pub fn can_stream(source: &Checkpoint, plan: &Plan, stream: &StreamOptions) -> bool {
    let chunks = convert::chunks(source, plan, None);
    Segments::split(source, plan, &chunks, stream.segment_bytes).is_some()
}

/// Converts like [`crate::convert()`], but downloads the weights of `remote`, with which `source` was opened. Resumes
/// an interrupted run from its journal.
///
/// # Errors
/// [`Error`] naming the file and tensor; [`Code::Sha256`] when a file does not have the listed SHA-256, [`Code::Fetch`]
/// from the [`RangeSource`], [`Code::Locked`] when another process uses the journal, [`Code::Interrupted`] after a
/// cancellation.
pub fn convert_streaming(
    source: &Checkpoint,
    plan: &Plan,
    remote: &RemoteCheckpoint,
    options: ConvertOptions,
    stream: &StreamOptions,
    observer: &dyn Observer,
) -> Result<Report> {
    let chunks = convert::chunks(source, plan, None);
    let segments = Segments::split(source, plan, &chunks, stream.segment_bytes).ok_or_else(|| {
        let what = "has tensors that share storages or are views, which a streaming conversion does not support";
        Error::new(Code::Request, &source.dir, what, "download the checkpoint, then convert the folder")
    })?;
    let identity = journal::identity(source, plan, remote, &segments);
    let partial_files = partial_files(plan);
    let mut journal = Journal::open(&stream.journal, &identity, &source.name(), &partial_files, observer)?;
    let (chunks, segments, partial_files) = (&chunks[..], &segments, &partial_files[..]);
    let streaming =
        StreamingConversion { source, plan, remote, options, stream, observer, chunks, segments, partial_files };
    let result = streaming.run(&mut journal);
    if result.is_err() {
        if journal.resume_point().is_some() || journal.is_renaming() {
            return result;
        }
        // nothing to resume from
        streaming.partial_files.iter().for_each(|part| Output::forget(part));
    }
    journal.remove()?;
    result
}

/// Returns the paths of the partial files. With several outputs they contain a tag for the set of outputs, so that
/// conversions to different sets do not overwrite each other's partial files.
fn partial_files(plan: &Plan) -> Vec<PathBuf> {
    let mut names: Vec<_> = plan.outputs.iter().map(|o| o.path.as_os_str().as_encoded_bytes()).collect();
    names.sort_unstable();
    let tag = if names.len() < 2 { String::new() } else { hex(&Sha256::digest(names.join(&0))[..4]) };
    plan.outputs.iter().map(|o| Output::part(&o.path, &tag)).collect()
}

/// A streaming conversion.
struct StreamingConversion<'a> {
    source: &'a Checkpoint,
    plan: &'a Plan,
    remote: &'a RemoteCheckpoint,
    options: ConvertOptions,
    stream: &'a StreamOptions,
    observer: &'a dyn Observer,
    chunks: &'a [Chunk],
    segments: &'a Segments,
    /// Path of the partial file of each output.
    partial_files: &'a [PathBuf],
}

impl StreamingConversion<'_> {
    /// Runs or resumes the conversion, until the outputs have their final names.
    fn run(&self, journal: &mut Journal) -> Result<Report> {
        let replace = self.options.replace;
        if journal.is_renaming() && !self.all_outputs_present(journal) {
            self.restart(journal)?;
        }
        if !journal.is_renaming() {
            let outputs = self.open_outputs(journal)?;
            let point = journal.resume_point().unwrap_or_default();
            self.convert(&outputs, journal, point)?;
            self.observer.finishing();
            for output in &outputs {
                output.sync()?;
            }
            journal.append_renaming(&outputs)?;
        }
        // an output without a partial file was renamed by a run that was killed during the renames
        let pending = self.planned().map(|(o, part)| Output::reopen(&o.path, part, o.len, replace));
        let pending = pending.filter_map(Result::transpose).collect::<Result<_>>()?;
        output::publish(pending)?;
        Ok(Report { read: self.plan.source_bytes, written: self.plan.output_bytes() })
    }

    /// Returns every output with the path of its partial file.
    fn planned(&self) -> impl Iterator<Item = (&OutputPlan, &Path)> {
        self.plan.outputs.iter().zip(self.partial_files.iter().map(PathBuf::as_path))
    }

    /// Returns whether all outputs are complete on disk, under their final names or as partial files. Inode numbers
    /// (where the system has them) exclude an older output with the same name and length.
    fn all_outputs_present(&self, journal: &Journal) -> bool {
        self.planned().all(|(o, part)| {
            let has = |path: &Path| {
                let found = std::fs::metadata(path).ok().filter(|found| found.is_file() && found.len() == o.len);
                found.is_some_and(|found| journal.wrote(&o.path, &found))
            };
            has(&o.path) || has(part)
        })
    }

    /// Restarts the journal, because its partial files are missing.
    fn restart(&self, journal: &mut Journal) -> Result<()> {
        let what = "partial files of the earlier run are missing or changed";
        self.observer.note(&format!("{}: {what}; starting over", self.stream.journal.display()));
        journal.restart()
    }

    /// Reopens the partial files of an earlier run, or creates new ones.
    fn open_outputs(&self, journal: &mut Journal) -> Result<Vec<Output>> {
        let replace = self.options.replace;
        if journal.resume_point().is_some() {
            let reopened = self.planned().map(|(o, part)| Output::reopen(&o.path, part, o.len, replace));
            let reopened = reopened.collect::<Result<Option<Vec<_>>>>();
            if let Some(reopened) = reopened? {
                return Ok(reopened);
            }
            self.restart(journal)?;
        }
        self.partial_files.iter().for_each(|part| Output::forget(part));
        space::check(self.planned().map(|(o, _)| (o.path.as_path(), o.len)))?;
        let mut outputs = Vec::with_capacity(self.partial_files.len());
        for (o, part) in self.planned() {
            let output = Output::begin(&o.path, part, o.len, replace)?;
            write_all_at(output.file(), &o.header, 0)
                .map_err(|err| Error::io(output.path(), "write the header", &err))?;
            outputs.push(output);
        }
        Ok(outputs)
    }

    /// Fetches, hashes and converts everything from `point` on.
    fn convert(&self, outputs: &[Output], journal: &mut Journal, point: ResumePoint) -> Result<()> {
        let first = self.segments.first_chunk(point.segment);
        if point.segment > 0 {
            let bytes = self.chunks[..first].iter().map(|chunk| chunk.bytes(self.plan)).sum();
            self.observer.advanced("", bytes);
            self.observer.note(&format!("resuming at {bytes} of {} bytes", self.plan.source_bytes));
        }
        let buffer = SegmentBuffer::new(self.source, self.segments, self.observer, self.stream.buffer_bytes, point);
        let converter =
            ChunkConverter::new(self.source, self.plan, outputs, self.chunks, &buffer, self.options, self.observer);
        let worked = std::thread::scope(|scope| {
            // its drop ends the threads, also on an early return
            let _closed = buffer.close_on_drop();
            let start = std::thread::Builder::new;
            let cannot = |err: std::io::Error| Error::thread(&self.source.dir, &err);
            for number in 0..self.stream.connections.get() {
                let connection = start().spawn_scoped(scope, || buffer.fetch(self.remote));
                // fewer connections are enough
                match connection {
                    Err(err) if number == 0 => return Err(cannot(err)),
                    Err(_) => break,
                    Ok(_) => {}
                }
            }
            start().spawn_scoped(scope, || buffer.hash_in_order(self.remote)).map_err(cannot)?;
            let journal_thread =
                start().spawn_scoped(scope, || self.journal_loop(&buffer, outputs, journal)).map_err(cannot)?;
            let worked = converter.run(self.options.threads, first).and_then(|()| buffer.wait_for_all());
            match &worked {
                Ok(()) => buffer.close(),
                Err(err) => buffer.stop(err.clone()),
            }
            let died =
                |_| Err(Error::new(Code::Engine, &self.source.dir, "the journal thread panicked", "report this"));
            // report the error that stopped the buffer first
            let worked = worked.map_err(|err| buffer.stop_reason().unwrap_or(err));
            worked.and(journal_thread.join().unwrap_or_else(died))
        });
        worked.inspect_err(|err| self.rewind_file(err, journal))
    }

    /// Appends resume points to the journal, each after an fsync of the outputs.
    fn journal_loop(&self, buffer: &SegmentBuffer<'_>, outputs: &[Output], journal: &mut Journal) -> Result<()> {
        let _stop_on_panic = buffer.stop_on_panic();
        let mut last = journal.resume_point().map_or(0, |point| point.segment);
        let mut when = Instant::now();
        loop {
            let more = buffer.wait_for_change();
            let point = buffer.resume_point();
            let bytes = self.segments.bytes_before(point.segment) - self.segments.bytes_before(last);
            if bytes > 0 && (!more || bytes >= self.stream.entry_bytes || when.elapsed() >= ENTRY_INTERVAL) {
                last = point.segment;
                let appended = outputs
                    .iter()
                    .try_for_each(Output::sync_data)
                    .and_then(|()| journal.append_point(point, self.segments.bytes_before(last)));
                appended.inspect_err(|err| buffer.stop(err.clone()))?;
                when = Instant::now();
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// Moves the journal back to the start of a file whose bytes are wrong, so that the next run downloads the file
    /// again: the transfer may have damaged it.
    fn rewind_file(&self, err: &Error, journal: &mut Journal) {
        if !matches!(err.code, Code::Sha256 | Code::TensorValue | Code::ZipCrc) {
            return;
        }
        let Some(shard) = self.source.shards.iter().position(|shard| shard.path == err.file) else { return };
        let first = self.segments.first_of_shard(shard);
        if journal.resume_point().is_some_and(|point| point.segment > first) {
            // if this fails, the next run resumes within the file, and its SHA-256 finds the damage again
            let point = ResumePoint { segment: first, checksum: RunningChecksum::default() };
            drop(journal.append_point(point, self.segments.bytes_before(first)));
        }
    }
}
