//! Conversion of weights that are still on their way: from a server straight to GGUF, without ever holding the checkpoint.
//!
//! ```text
//! RangeSource ─► segments, several at once ─► SegmentBuffer ─┬─► sha256 and CRC32, in the order of the file
//! (HTTP is     cut at chunks              bounded └─► chunks: the same workers as for a file on disk ─► NAME.tulu-part
//!  elsewhere)                             memory
//! ```
//!
//! Every byte that is converted has checksum through its file's sha256: a segment is fetched once and serves both. Headers
//! and directories, which decide where a tensor's bytes are, are read before that; when their bytes pass, they are
//! compared with what was read. The journal says up to which segment everything is done and on disk; whoever runs it again goes on
//! from there. Outputs get their names when every file's sha256 was right.

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

/// How weights are fetched, and where is kept how far that is.
#[derive(Clone, Debug)]
pub struct StreamOptions {
    /// The journal's file; beside the outputs, and another one for other outputs.
    pub journal: PathBuf,
    /// Requests at a time.
    pub connections: NonZeroUsize,
    /// Bytes in one request, about.
    pub segment: u64,
    /// Bytes that are held in memory at capacity.
    pub buffer: u64,
    /// Bytes that arrive between two entries in the journal, at capacity and about; there is one every two seconds at least.
    pub entry: u64,
}

impl StreamOptions {
    /// What suits `total` bytes of weights: requests of some MiB for a real model, smaller ones for a small one, so that
    /// there are enough of them to go on from.
    #[must_use]
    pub fn of(total: u64, journal: PathBuf) -> Self {
        let segment = (total / 256).clamp(256 << 10, 8 << 20);
        Self {
            journal,
            connections: NonZeroUsize::MIN.saturating_add(7),
            segment,
            buffer: 16 * segment,
            entry: (total / 32).clamp(segment, 128 << 20),
        }
    }
}

/// Time between two entries in the journal.
const ENTRY_TIME: Duration = Duration::from_secs(2);

/// Bytes of memory that the weights on their way take beside [`crate::memory_needed`].
#[must_use]
pub fn stream_memory(stream: &StreamOptions) -> u64 {
    stream.buffer + stream.segment
}

/// Whether [`arrive`] can convert this checkpoint: no if a tensor is a view, whose bytes lie all over its storage, or if
/// many tensors share one.
#[must_use]
pub fn can_stream(source: &Checkpoint, plan: &Plan, stream: &StreamOptions) -> bool {
    let chunks = convert::chunks(source, plan, None);
    Segments::split(source, plan, &chunks, stream.segment).is_some()
}

/// As [`crate::convert`], with weights that come from `remote`, which `source` was opened with. What a run that was
/// stopped or killed had done and written to its journal is not done again.
///
/// # Errors
/// [`Error`] naming the file and tensor; [`Code::Sha256`] when what arrived is not what was listed, [`Code::Fetch`] as
/// the supply gives it, [`Code::Locked`] when another process converts with the same journal.
pub fn convert_streaming(
    source: &Checkpoint,
    plan: &Plan,
    remote: &RemoteCheckpoint,
    options: ConvertOptions,
    stream: &StreamOptions,
    observer: &dyn Observer,
) -> Result<Report> {
    let chunks = convert::chunks(source, plan, None);
    let segments = Segments::split(source, plan, &chunks, stream.segment).ok_or_else(|| {
        let what = "has tensors that share storages or are views, which cannot be converted as they arrive";
        Error::new(Code::Request, &source.dir, what, "download the checkpoint, then convert the folder")
    })?;
    let identity = journal::identity(source, plan, remote, &segments);
    let parts = parts(plan);
    let mut journal = Journal::open(&stream.journal, &identity, &source.name(), &parts, observer)?;
    let (chunks, segments, parts) = (&chunks[..], &segments, &parts[..]);
    let run = Streaming { source, plan, remote, options, stream, observer, chunks, segments, parts };
    let done = run.run(&mut journal);
    if done.is_err() {
        if journal.resume_point().is_some() || journal.is_publishing() {
            return done;
        }
        // nothing to go on from
        run.parts.iter().for_each(|part| Output::forget(part));
    }
    journal.remove()?;
    done
}

/// Where each output is until it is complete. Conversions to other sets of outputs have other names there, so that one
/// does not write over what another, which was stopped, goes on from.
fn parts(plan: &Plan) -> Vec<PathBuf> {
    let mut names: Vec<_> = plan.outputs.iter().map(|o| o.path.as_os_str().as_encoded_bytes()).collect();
    names.sort_unstable();
    let tag = if names.len() < 2 { String::new() } else { hex(&Sha256::digest(names.join(&0))[..4]) };
    plan.outputs.iter().map(|o| Output::part(&o.path, &tag)).collect()
}

/// Everything that a run needs.
struct Streaming<'a> {
    source: &'a Checkpoint,
    plan: &'a Plan,
    remote: &'a RemoteCheckpoint,
    options: ConvertOptions,
    stream: &'a StreamOptions,
    observer: &'a dyn Observer,
    chunks: &'a [Chunk],
    segments: &'a Segments,
    /// Of each output, until it has its name.
    parts: &'a [PathBuf],
}

impl Streaming<'_> {
    /// From wherever the journal stands to outputs under their names.
    fn run(&self, journal: &mut Journal) -> Result<Report> {
        let replace = self.options.replace;
        if journal.is_publishing() && !self.all_outputs_present(journal) {
            self.restart(journal)?;
        }
        if !journal.is_publishing() {
            let outputs = self.outputs(journal)?;
            let point = journal.resume_point().unwrap_or_default();
            self.convert(&outputs, journal, point)?;
            self.observer.finishing();
            for output in &outputs {
                output.sync()?;
            }
            journal.publish(&outputs)?;
        }
        // one that has its name already was published by the run that was killed while it did this
        let unnamed = self.planned().map(|(o, part)| Output::reopen(&o.path, part, o.len, replace));
        let unnamed = unnamed.filter_map(Result::transpose).collect::<Result<_>>()?;
        output::publish(unnamed)?;
        Ok(Report { read: self.plan.source_bytes, written: self.plan.output_bytes() })
    }

    /// Every output and the name that it has until it is complete.
    fn planned(&self) -> impl Iterator<Item = (&OutputPlan, &Path)> {
        self.plan.outputs.iter().zip(self.parts.iter().map(PathBuf::as_path))
    }

    /// Whether every output is there, under its own name or still under the other: the very file that was written, where
    /// the system numbers files, for an older output may have the same name and length.
    fn all_outputs_present(&self, journal: &Journal) -> bool {
        self.planned().all(|(o, part)| {
            let has = |path: &Path| {
                let found = std::fs::metadata(path).ok().filter(|found| found.is_file() && found.len() == o.len);
                found.is_some_and(|found| journal.wrote(&o.path, &found))
            };
            has(&o.path) || has(part)
        })
    }

    /// Forgets what the journal says, because the files it is about are not there.
    fn restart(&self, journal: &mut Journal) -> Result<()> {
        let what = "the files that an earlier run began are not there as it left them";
        self.observer.note(&format!("{}: {what}; it begins anew", self.stream.journal.display()));
        journal.restart()
    }

    /// The outputs as an earlier run left them, or new ones.
    fn outputs(&self, journal: &mut Journal) -> Result<Vec<Output>> {
        let replace = self.options.replace;
        if journal.resume_point().is_some() {
            let begun = self.planned().map(|(o, part)| Output::reopen(&o.path, part, o.len, replace));
            let begun = begun.collect::<Result<Option<Vec<_>>>>();
            if let Some(begun) = begun? {
                return Ok(begun);
            }
            self.restart(journal)?;
        }
        self.parts.iter().for_each(|part| Output::forget(part));
        space::check(self.planned().map(|(o, _)| (o.path.as_path(), o.len)))?;
        let mut outputs = Vec::with_capacity(self.parts.len());
        for (o, part) in self.planned() {
            let output = Output::begin(&o.path, part, o.len, replace)?;
            write_all_at(output.file(), &o.header, 0)
                .map_err(|err| Error::io(output.path(), "write the header", &err))?;
            outputs.push(output);
        }
        Ok(outputs)
    }

    /// Fetches, sums and converts everything from `point`.
    fn convert(&self, outputs: &[Output], journal: &mut Journal, point: ResumePoint) -> Result<()> {
        let first = self.segments.first_chunk(point.segment);
        if point.segment > 0 {
            let bytes = self.chunks[..first].iter().map(|chunk| chunk.bytes(self.plan)).sum();
            self.observer.advanced("", bytes);
            self.observer
                .note(&format!("goes on where an earlier run stopped, at {bytes} of {} bytes", self.plan.source_bytes));
        }
        let buffer = SegmentBuffer::new(self.source, self.segments, self.observer, self.stream.buffer, point);
        let job =
            ChunkConverter::new(self.source, self.plan, outputs, self.chunks, &buffer, self.options, self.observer);
        let worked = std::thread::scope(|scope| {
            // whatever happens in here, the threads end
            let _closed = buffer.close_at_the_end();
            let start = std::thread::Builder::new;
            let cannot = |err: std::io::Error| Error::thread(&self.source.dir, &err);
            for number in 0..self.stream.connections.get() {
                let connection = start().spawn_scoped(scope, || buffer.fetch(self.remote));
                // fewer will do
                match connection {
                    Err(err) if number == 0 => return Err(cannot(err)),
                    Err(_) => break,
                    Ok(_) => {}
                }
            }
            start().spawn_scoped(scope, || buffer.hash_in_order(self.remote)).map_err(cannot)?;
            let keeper =
                start().spawn_scoped(scope, || self.journal_loop(&buffer, outputs, journal)).map_err(cannot)?;
            let worked = job.run(self.options.threads, first).and_then(|()| buffer.wait_for_all());
            match &worked {
                Ok(()) => buffer.close(),
                Err(err) => buffer.stop(err.clone()),
            }
            let died =
                |_| Err(Error::new(Code::Engine, &self.source.dir, "the thread of the journal died", "report this"));
            // whatever stopped the buffer first is why the workers stopped
            let worked = worked.map_err(|err| buffer.reason().unwrap_or(err));
            worked.and(keeper.join().unwrap_or_else(died))
        });
        worked.inspect_err(|err| self.rewind_file(err, journal))
    }

    /// Makes entries in the journal, each after what it claims is on disk.
    fn journal_loop(&self, buffer: &SegmentBuffer<'_>, outputs: &[Output], journal: &mut Journal) -> Result<()> {
        let _stop_on_panic = buffer.stop_on_panic();
        let mut last = journal.resume_point().map_or(0, |point| point.segment);
        let mut when = Instant::now();
        loop {
            let more = buffer.wait_for_change();
            let point = buffer.resume_point();
            let bytes = self.segments.bytes_before(point.segment) - self.segments.bytes_before(last);
            if bytes > 0 && (!more || bytes >= self.stream.entry || when.elapsed() >= ENTRY_TIME) {
                last = point.segment;
                let kept = outputs
                    .iter()
                    .try_for_each(Output::sync_data)
                    .and_then(|()| journal.append_point(point, self.segments.bytes_before(last)));
                kept.inspect_err(|err| buffer.stop(err.clone()))?;
                when = Instant::now();
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// What is wrong with a file's bytes may have come on the way: all of that file is in doubt then, and is fetched
    /// again by the next run.
    fn rewind_file(&self, err: &Error, journal: &mut Journal) {
        if !matches!(err.code, Code::Sha256 | Code::TensorValue | Code::ZipCrc) {
            return;
        }
        let Some(shard) = self.source.shards.iter().position(|shard| shard.path == err.file) else { return };
        let first = self.segments.first_of_shard(shard);
        if journal.resume_point().is_some_and(|point| point.segment > first) {
            // an entry that cannot be made leaves the doubtful one, and the sha256 finds the damage again
            let point = ResumePoint { segment: first, checksum: RunningChecksum::default() };
            drop(journal.append_point(point, self.segments.bytes_before(first)));
        }
    }
}
