//! Conversion of weights that are still on their way: from a server straight to GGUF, without ever holding the checkpoint.
//!
//! ```text
//! Supply ─► segments, several at once ─► Window ─┬─► sha256 and CRC32, in the order of the file
//! (HTTP is     cut at chunks              bounded └─► chunks: the same workers as for a file on disk ─► NAME.tulu-part
//!  elsewhere)                             memory
//! ```
//!
//! Every byte that is converted has passed through its file's sha256: a segment is fetched once and serves both. Headers
//! and directories, which decide where a tensor's bytes are, are read before that; when their bytes pass, they are
//! compared with what was read. The journal says up to which segment everything is done and on disk; whoever runs it again goes on
//! from there. Outputs get their names when every file's sha256 was right.

mod checksum;
mod journal;
mod remote;
mod segment_buffer;
mod segments;

pub use remote::{Distant, DistantFile, Supply};

use crate::checkpoint::Checkpoint;
use crate::convert::{self, Chunk, Job, Options, Report};
use crate::error::{Code, Error, Result};
use crate::observer::Observer;
use crate::output::{self, Output};
use crate::plan::{OutputPlan, Plan};
use crate::positioned::write_all_at;
use crate::space;
use checksum::{Passed, hex};
use journal::{Journal, Mark};
use segment_buffer::Window;
use segments::Segments;
use sha2::{Digest as _, Sha256};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How weights are fetched, and where is kept how far that is.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The journal's file; beside the outputs, and another one for other outputs.
    pub journal: PathBuf,
    /// Requests at a time.
    pub connections: NonZeroUsize,
    /// Bytes in one request, about.
    pub segment: u64,
    /// Bytes that are held in memory at most.
    pub window: u64,
    /// Bytes that arrive between two entries in the journal, at most and about; there is one every two seconds at least.
    pub entry: u64,
}

impl Arrival {
    /// What suits `total` bytes of weights: requests of some MiB for a real model, smaller ones for a small one, so that
    /// there are enough of them to go on from.
    #[must_use]
    pub fn of(total: u64, journal: PathBuf) -> Self {
        let segment = (total / 256).clamp(256 << 10, 8 << 20);
        Self {
            journal,
            connections: NonZeroUsize::MIN.saturating_add(7),
            segment,
            window: 16 * segment,
            entry: (total / 32).clamp(segment, 128 << 20),
        }
    }
}

/// Time between two entries in the journal.
const ENTRY_TIME: Duration = Duration::from_secs(2);

/// Bytes of memory that the weights on their way take beside [`crate::memory_needed`].
#[must_use]
pub fn memory_held(arrival: &Arrival) -> u64 {
    arrival.window + arrival.segment
}

/// Whether [`arrive`] can convert this checkpoint: no if a tensor is a view, whose bytes lie all over its storage, or if
/// many tensors share one.
#[must_use]
pub fn can_arrive(source: &Checkpoint, plan: &Plan, arrival: &Arrival) -> bool {
    let chunks = convert::chunks(source, plan, None);
    Segments::cut(source, plan, &chunks, arrival.segment).is_some()
}

/// As [`crate::convert`], with weights that come from `distant`, which `source` was opened with. What a run that was
/// stopped or killed had done and written to its journal is not done again.
///
/// # Errors
/// [`Error`] naming the file and tensor; [`Code::Sha256`] when what arrived is not what was listed, [`Code::Fetch`] as
/// the supply gives it, [`Code::Locked`] when another process converts with the same journal.
pub fn arrive(
    source: &Checkpoint,
    plan: &Plan,
    distant: &Distant,
    options: Options,
    arrival: &Arrival,
    observer: &dyn Observer,
) -> Result<Report> {
    let chunks = convert::chunks(source, plan, None);
    let segments = Segments::cut(source, plan, &chunks, arrival.segment).ok_or_else(|| {
        let what = "has tensors that share storages or are views, which cannot be converted as they arrive";
        Error::new(Code::Request, &source.dir, what, "download the checkpoint, then convert the folder")
    })?;
    let identity = journal::identity(source, plan, distant, &segments);
    let parts = parts(plan);
    let mut journal = Journal::open(&arrival.journal, &identity, &source.name(), &parts, observer)?;
    let (chunks, segments, parts) = (&chunks[..], &segments, &parts[..]);
    let run = Run { source, plan, distant, options, arrival, observer, chunks, segments, parts };
    let done = run.all(&mut journal);
    if done.is_err() {
        if journal.mark().is_some() || journal.is_publishing() {
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
struct Run<'a> {
    source: &'a Checkpoint,
    plan: &'a Plan,
    distant: &'a Distant,
    options: Options,
    arrival: &'a Arrival,
    observer: &'a dyn Observer,
    chunks: &'a [Chunk],
    segments: &'a Segments,
    /// Of each output, until it has its name.
    parts: &'a [PathBuf],
}

impl Run<'_> {
    /// From wherever the journal stands to outputs under their names.
    fn all(&self, journal: &mut Journal) -> Result<Report> {
        let replace = self.options.replace;
        if journal.is_publishing() && !self.is_published_in_part(journal) {
            self.anew(journal)?;
        }
        if !journal.is_publishing() {
            let outputs = self.outputs(journal)?;
            let mark = journal.mark().unwrap_or_default();
            self.convert(&outputs, journal, mark)?;
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
    fn is_published_in_part(&self, journal: &Journal) -> bool {
        self.planned().all(|(o, part)| {
            let has = |path: &Path| {
                let found = std::fs::metadata(path).ok().filter(|found| found.is_file() && found.len() == o.len);
                found.is_some_and(|found| journal.wrote(&o.path, &found))
            };
            has(&o.path) || has(part)
        })
    }

    /// Forgets what the journal says, because the files it is about are not there.
    fn anew(&self, journal: &mut Journal) -> Result<()> {
        let what = "the files that an earlier run began are not there as it left them";
        self.observer.note(&format!("{}: {what}; it begins anew", self.arrival.journal.display()));
        journal.restart()
    }

    /// The outputs as an earlier run left them, or new ones.
    fn outputs(&self, journal: &mut Journal) -> Result<Vec<Output>> {
        let replace = self.options.replace;
        if journal.mark().is_some() {
            let begun = self.planned().map(|(o, part)| Output::reopen(&o.path, part, o.len, replace));
            let begun = begun.collect::<Result<Option<Vec<_>>>>();
            if let Some(begun) = begun? {
                return Ok(begun);
            }
            self.anew(journal)?;
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

    /// Fetches, sums and converts everything from `mark`.
    fn convert(&self, outputs: &[Output], journal: &mut Journal, mark: Mark) -> Result<()> {
        let first = self.segments.first_chunk(mark.segment);
        if mark.segment > 0 {
            let bytes = self.chunks[..first].iter().map(|chunk| chunk.bytes(self.plan)).sum();
            self.observer.advanced("", bytes);
            self.observer
                .note(&format!("goes on where an earlier run stopped, at {bytes} of {} bytes", self.plan.source_bytes));
        }
        let window = Window::new(self.source, self.segments, self.observer, self.arrival.window, mark);
        let job = Job::new(self.source, self.plan, outputs, self.chunks, &window, self.options, self.observer);
        let worked = std::thread::scope(|scope| {
            // whatever happens in here, the threads end
            let _closed = window.close_at_the_end();
            let start = std::thread::Builder::new;
            let cannot = |err: std::io::Error| Error::thread(&self.source.dir, &err);
            for number in 0..self.arrival.connections.get() {
                let connection = start().spawn_scoped(scope, || window.fetch(self.distant));
                // fewer will do
                match connection {
                    Err(err) if number == 0 => return Err(cannot(err)),
                    Err(_) => break,
                    Ok(_) => {}
                }
            }
            start().spawn_scoped(scope, || window.pass(self.distant)).map_err(cannot)?;
            let keeper = start().spawn_scoped(scope, || self.keep(&window, outputs, journal)).map_err(cannot)?;
            let worked = job.run(self.options.threads, first).and_then(|()| window.wait_for_all());
            match &worked {
                Ok(()) => window.close(),
                Err(err) => window.stop(err.clone()),
            }
            let died =
                |_| Err(Error::new(Code::Engine, &self.source.dir, "the thread of the journal died", "report this"));
            // whatever stopped the window first is why the workers stopped
            let worked = worked.map_err(|err| window.reason().unwrap_or(err));
            worked.and(keeper.join().unwrap_or_else(died))
        });
        worked.inspect_err(|err| self.doubt(err, journal))
    }

    /// Makes entries in the journal, each after what it claims is on disk.
    fn keep(&self, window: &Window<'_>, outputs: &[Output], journal: &mut Journal) -> Result<()> {
        let _told = window.tell_of_death();
        let mut last = journal.mark().map_or(0, |mark| mark.segment);
        let mut when = Instant::now();
        loop {
            let more = window.watch();
            let mark = window.mark();
            let bytes = self.segments.before(mark.segment) - self.segments.before(last);
            if bytes > 0 && (!more || bytes >= self.arrival.entry || when.elapsed() >= ENTRY_TIME) {
                last = mark.segment;
                let kept = outputs
                    .iter()
                    .try_for_each(Output::sync_data)
                    .and_then(|()| journal.enter(mark, self.segments.before(last)));
                kept.inspect_err(|err| window.stop(err.clone()))?;
                when = Instant::now();
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// What is wrong with a file's bytes may have come on the way: all of that file is in doubt then, and is fetched
    /// again by the next run.
    fn doubt(&self, err: &Error, journal: &mut Journal) {
        if !matches!(err.code, Code::Sha256 | Code::TensorValue | Code::ZipCrc) {
            return;
        }
        let Some(shard) = self.source.shards.iter().position(|shard| shard.path == err.file) else { return };
        let first = self.segments.first_of(shard);
        if journal.mark().is_some_and(|mark| mark.segment > first) {
            // an entry that cannot be made leaves the doubtful one, and the sha256 finds the damage again
            let mark = Mark { segment: first, passed: Passed::default() };
            drop(journal.enter(mark, self.segments.before(first)));
        }
    }
}
