//! The one pass: every tensor is read once, in chunks of rows, and written to every output at the offset the plan gave.
//!
//! Chunks go over a pool of threads. Each thread has its own three buffers (source bytes, f32, quantized bytes), so the
//! memory is threads × a few MiB whatever the model's size, and while one thread waits for the disk another computes.

use crate::checkpoint::Checkpoint;
use crate::error::{Code, Error, Result};
use crate::hashes::Hashes;
use crate::kernels;
use crate::names::{Layout, rotary_source_row};
use crate::observer::Observer;
use crate::output::{self, Output};
use crate::plan::{Plan, PlannedTensor};
use crate::platform::write_all_at;
use crate::pool;
use crate::range;
use crate::space;
use crate::sums::{Piece, Sums, Unread};
use crate::weights::Reader;
use llama_ext::GgmlType;
use std::io;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Weights in one chunk: 1 MiB of BF16 in, 2 MiB of f32, at most 2 MiB out.
const CHUNK: u64 = 1 << 19;

/// Bytes written between two flushes.
const FLUSH: u64 = 128 << 20;

/// How to convert.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Worker threads.
    pub threads: NonZeroUsize,
    /// Replace outputs that exist.
    pub replace: bool,
    /// Quantize with ggml's own code: slower, the same bytes.
    pub reference_kernels: bool,
}

/// What a conversion did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Bytes of weights read.
    pub read: u64,
    /// Bytes written, all outputs together.
    pub written: u64,
}

/// Some rows of one tensor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunk {
    pub(crate) tensor: usize,
    pub(crate) first_row: u64,
    pub(crate) rows: u64,
    /// What its bytes are of a storage whose CRC32 is known.
    piece: Option<Piece>,
}

impl Chunk {
    /// What its bytes are of a storage whose CRC32 is known.
    pub(crate) fn piece(&self) -> Option<Piece> {
        self.piece
    }

    /// Bytes in the source.
    pub(crate) fn bytes(&self, plan: &Plan) -> u64 {
        let tensor = &plan.tensors[self.tensor];
        tensor.source_bytes / tensor.n_rows().max(1) * self.rows
    }
}

/// Where the bytes of the chunks come from.
pub(crate) trait Feed: Sync {
    /// Fills `buf` with the bytes of a shard from `offset`.
    fn read(&self, shard: usize, buf: &mut [u8], offset: u64) -> io::Result<()>;

    /// A chunk is converted and written.
    fn done(&self, _chunk: usize) {}

    /// What is said when it is stopped.
    fn left(&self) -> &'static str {
        "stopped; no file was kept"
    }
}

/// The shards are all here.
impl Feed for Checkpoint {
    fn read(&self, shard: usize, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.shards[shard].medium.read_exact_at(buf, offset)
    }
}

/// Writes every output of `plan`. They appear under their names only when all of them are complete and on disk; on any
/// error, and when the observer cancels, none does. Where a weight file's sha256 is known, the file has it, or there is no
/// output.
///
/// # Errors
/// [`Error`] naming the file and tensor.
pub fn convert(source: &Checkpoint, plan: &Plan, options: Options, observer: &dyn Observer) -> Result<Report> {
    space::check(plan.outputs.iter().map(|o| (o.path.as_path(), o.len)))?;
    let mut outputs = Vec::with_capacity(plan.outputs.len());
    for planned in &plan.outputs {
        let output = Output::create(&planned.path, planned.len, options.replace)?;
        write_all_at(output.file(), &planned.header, 0)
            .map_err(|err| Error::io(output.path(), "write the header", &err))?;
        outputs.push(output);
    }
    let (mut sums, unread) = Sums::new(source, plan);
    let chunks = chunks(source, plan, Some(&mut sums));
    let hashes = Hashes::new(source, observer);
    let job =
        Job { sums: Some((&sums, &unread)), ..Job::new(source, plan, &outputs, &chunks, source, options, observer) };
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // without a thread for it, all is flushed and hashed at the end
        let aside = std::thread::Builder::new();
        let flusher = aside.spawn_scoped(scope, || job.aside(|| flush_along(&outputs, &job.written, &done))).ok();
        let aside = std::thread::Builder::new();
        let hasher = aside.spawn_scoped(scope, || job.aside(|| hashes.along(&done, || job.place()))).ok();
        let worked = job.run(options.threads, 0);
        done.store(true, Ordering::Relaxed);
        let worked = worked.and_then(|()| hashes.rest(options.threads)).inspect_err(|_| hashes.stop());
        let defect = || Error::new(Code::Engine, &source.dir, "a thread died", "report this");
        let aside =
            [flusher, hasher].map(|thread| thread.map_or(Ok(()), |t| t.join().unwrap_or_else(|_| Err(defect()))));
        // what went wrong aside stopped the workers
        aside.into_iter().collect::<Result<()>>().and(worked)
    })?;
    sums.check()?;
    source.unchanged()?;
    observer.finishing();
    for output in &outputs {
        output.sync()?;
    }
    output::publish(outputs)?;
    Ok(Report { read: plan.source_bytes, written: plan.output_bytes() })
}

/// Flushes what is written while the threads still compute: left to the system, most of it would wait in memory for the
/// last flush, and the disk would stand idle until then. A failed flush is reported only once, so its error is kept.
fn flush_along(outputs: &[Output], written: &AtomicU64, done: &AtomicBool) -> Result<()> {
    let mut flushed = 0;
    while !done.load(Ordering::Relaxed) {
        let now = written.load(Ordering::Relaxed);
        if now - flushed < FLUSH {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        }
        flushed = now;
        for output in outputs {
            output.sync_data()?;
        }
    }
    Ok(())
}

/// Bytes of memory a conversion takes, at most and roughly: what each thread holds of a chunk (source, f32, f32 in order,
/// blocks), the headers, and the program itself.
#[must_use]
pub fn memory_needed(plan: &Plan, threads: NonZeroUsize) -> u64 {
    let weights = |t: &PlannedTensor| t.n_per_row().saturating_mul(step(t, plan.head_dim).min(t.n_rows()));
    let chunk = plan.tensors.iter().map(weights).max().unwrap_or(0);
    let headers = plan.outputs.iter().fold(0_u64, |sum, o| sum.saturating_add(o.header.len() as u64));
    let threads = threads.get().min(pool::MOST_THREADS) as u64;
    threads.saturating_mul(chunk).saturating_mul(16).saturating_add(headers.saturating_mul(2)).saturating_add(32 << 20)
}

/// Rows of `t` in one chunk: interleaving takes rows from both halves of a head, so there a chunk has whole heads.
fn step(t: &PlannedTensor, head_dim: u32) -> u64 {
    let fit = (CHUNK / t.n_per_row().max(1)).max(1);
    let unit = if t.layout == Layout::RotaryPairs { u64::from(head_dim).max(1) } else { 1 };
    (fit / unit).max(1) * unit
}

/// Every row of every tensor, in the order of the source files so that the disk is read forward.
pub(crate) fn chunks(source: &Checkpoint, plan: &Plan, mut sums: Option<&mut Sums<'_>>) -> Vec<Chunk> {
    let mut order: Vec<usize> = (0..plan.tensors.len()).collect();
    let at = |i: &usize| source.tensors.get(plan.tensors[*i].source).map(|t| (t.shard, t.offset));
    order.sort_by_key(at);
    let mut all = Vec::new();
    for tensor in order {
        let t = &plan.tensors[tensor];
        let step = step(t, source.config.head_dim);
        let mut first_row = 0;
        while first_row < t.n_rows() {
            let rows = step.min(t.n_rows() - first_row);
            let bytes = rows * (t.source_bytes / t.n_rows());
            let piece = sums.as_mut().and_then(|sums| sums.piece(tensor, bytes));
            all.push(Chunk { tensor, first_row, rows, piece });
            first_row += rows;
        }
    }
    all
}

/// [`kernels::quantize`] or [`kernels::reference`].
type Kernel = fn(GgmlType, &[f32], usize, Option<&[f32]>, &mut [u8]) -> std::result::Result<(), llama_ext::Error>;

/// Chunks to be converted into outputs.
pub(crate) struct Job<'a> {
    source: &'a Checkpoint,
    plan: &'a Plan,
    outputs: &'a [Output],
    chunks: &'a [Chunk],
    feed: &'a dyn Feed,
    /// The sums to take, and what is read for them alone.
    sums: Option<(&'a Sums<'a>, &'a [Unread])>,
    kernel: Kernel,
    observer: &'a dyn Observer,
    /// Bytes written so far, all outputs together.
    written: AtomicU64,
    /// The last chunk that was begun.
    begun: AtomicUsize,
    /// Something that runs beside the workers failed.
    broken: AtomicBool,
}

/// One thread's memory.
#[derive(Default)]
struct Buffers {
    reader: Reader,
    packed: Vec<u8>,
}

impl<'a> Job<'a> {
    /// All of `chunks`, without sums.
    pub(crate) fn new(
        source: &'a Checkpoint,
        plan: &'a Plan,
        outputs: &'a [Output],
        chunks: &'a [Chunk],
        feed: &'a dyn Feed,
        options: Options,
        observer: &'a dyn Observer,
    ) -> Self {
        let kernel: Kernel = if options.reference_kernels { kernels::reference } else { kernels::quantize };
        let (written, begun, broken) = (AtomicU64::new(0), AtomicUsize::new(0), AtomicBool::new(false));
        Self { source, plan, outputs, chunks, feed, sums: None, kernel, observer, written, begun, broken }
    }

    /// Runs all chunks from number `first`, then what no chunk reads of storages whose sums are checked.
    pub(crate) fn run(&self, threads: NonZeroUsize, first: usize) -> Result<()> {
        let rest = self.chunks.len() - first.min(self.chunks.len());
        let count = rest + self.sums.map_or(0, |(_, unread)| unread.len());
        pool::each(threads, count, &self.source.dir, |number, buffers: &mut Buffers| {
            self.going_on()?;
            match (self.chunks.get(first + number), self.sums) {
                (Some(chunk), _) => {
                    self.begun.fetch_max(first + number, Ordering::Relaxed);
                    self.one(*chunk, buffers)?;
                    self.feed.done(first + number);
                    Ok(())
                }
                (None, Some((sums, unread))) => sums.read(unread[number - rest], buffers.reader.bytes()),
                (None, None) => Ok(()),
            }
        })
    }

    /// Runs `work` on a thread beside the workers; when it fails, they stop.
    fn aside(&self, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let died = |_| Err(Error::new(Code::Engine, &self.source.dir, "a thread died", "report this"));
        let done = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(died);
        done.inspect_err(|_| self.broken.store(true, Ordering::Relaxed))
    }

    /// Where in the source the workers are: file and offset.
    fn place(&self) -> (usize, u64) {
        let Some(chunk) = self.chunks.get(self.begun.load(Ordering::Relaxed)) else { return (0, 0) };
        let tensor = &self.plan.tensors[chunk.tensor];
        let from = &self.source.tensors[tensor.source];
        (from.shard, from.offset.saturating_add(tensor.source_bytes / tensor.n_rows().max(1) * chunk.first_row))
    }

    fn going_on(&self) -> Result<()> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(Error::new(Code::Interrupted, &self.source.dir, self.feed.left(), "run it again"));
        }
        if self.observer.cancelled() {
            return Err(Error::new(Code::Interrupted, &self.source.dir, self.feed.left(), "run it again"));
        }
        Ok(())
    }

    fn one(&self, chunk: Chunk, buffers: &mut Buffers) -> Result<()> {
        let tensor = &self.plan.tensors[chunk.tensor];
        let from = &self.source.tensors[tensor.source];
        let bytes = |buf: &mut [u8], offset| self.feed.read(from.shard, buf, offset);
        let read = buffers.reader.read(self.source, &bytes, tensor, (chunk.first_row, chunk.rows))?;
        if let (Some(piece), Some((sums, _))) = (chunk.piece, self.sums) {
            sums.keep(piece, read.bytes);
        }
        let n_per_row = narrow(tensor.n_per_row());
        let importance = self.plan.importance[chunk.tensor].as_deref();
        for (number, output) in self.outputs.iter().enumerate() {
            let planned = &self.plan.outputs[number];
            let kind = planned.types[chunk.tensor];
            let row_bytes = planned.sizes[chunk.tensor] / tensor.n_rows();
            // blocks that have the type already are taken over, as llama-quantize does
            let bytes = if kind == from.dtype && kind.block_size() > 1 {
                read.bytes
            } else {
                buffers.packed.resize(narrow(row_bytes * chunk.rows), 0);
                (self.kernel)(kind, read.weights, n_per_row, importance, &mut buffers.packed).map_err(|err| {
                    Error::new(Code::Engine, output.path(), format!("{}: {err}", tensor.name), "report this")
                })?;
                &buffers.packed
            };
            let made = range::Made { kind, bytes, n_per_row, importance };
            if let Some(at) = range::lost(&made, read.weights, read.largest) {
                return Err(self.out_of_range(chunk, kind, at, read.weights[at]));
            }
            let offset = planned.offsets[chunk.tensor] + row_bytes * chunk.first_row;
            write_all_at(output.file(), bytes, offset)
                .map_err(|err| Error::io(output.path(), &format!("write tensor '{}'", tensor.name), &err))?;
            self.written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        self.observer.advanced(&tensor.name, chunk.bytes(self.plan));
        Ok(())
    }

    /// The weight number `at` of a chunk cannot be stored.
    fn out_of_range(&self, chunk: Chunk, kind: GgmlType, at: usize, value: f32) -> Error {
        let tensor = &self.plan.tensors[chunk.tensor];
        let from = &self.source.tensors[tensor.source];
        let columns = narrow(tensor.n_per_row()).max(1);
        let (mut row, column) = (at / columns, at % columns);
        if tensor.layout == Layout::RotaryPairs {
            row = rotary_source_row(row, self.source.config.head_dim as usize);
        }
        let row = chunk.first_row + row as u64;
        let what =
            format!("tensor '{}' has {value} at row {row}, column {column}, which {kind} cannot hold", from.name);
        let fix =
            "name a type that can (BF16 or F32), or download the checkpoint again: a weight this large is often damage";
        Error::new(Code::TensorValue, &self.source.shards[from.shard].path, what, fix)
    }
}

/// Sizes of one chunk: bounded by [`CHUNK`] and by one head's rows.
fn narrow(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
