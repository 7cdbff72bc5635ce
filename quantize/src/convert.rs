//! The one pass: every tensor is read once, in chunks of rows, and written to every output at the offset the plan gave.
//!
//! Chunks go over a pool of threads. Each thread has its own three buffers (source bytes, f32, quantized bytes), so the
//! memory is threads × a few MiB whatever the model's size, and while one thread waits for the disk another computes.

use crate::checkpoint::Checkpoint;
use crate::error::{Code, Error, Result};
use crate::kernels;
use crate::names::Layout;
use crate::observer::Observer;
use crate::output::Output;
use crate::plan::Plan;
use crate::pool;
use crate::positioned::write_all_at;
use crate::sums::{Piece, Sums, Unread};
use crate::weights::Reader;
use llama_ext::GgmlType;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
struct Chunk {
    tensor: usize,
    first_row: u64,
    rows: u64,
    /// What its bytes are of a storage whose CRC32 is known.
    piece: Option<Piece>,
}

/// Writes every output of `plan`. They appear under their names only when all of them are complete and on disk; on any
/// error, and when the observer cancels, none does.
///
/// # Errors
/// [`Error`] naming the file and tensor.
pub fn convert(source: &Checkpoint, plan: &Plan, options: Options, observer: &dyn Observer) -> Result<Report> {
    let mut outputs = Vec::with_capacity(plan.outputs.len());
    for planned in &plan.outputs {
        let output = Output::create(&planned.path, planned.len, options.replace)?;
        write_all_at(output.file(), &planned.header, 0)
            .map_err(|err| Error::io(output.path(), "write the header", &err))?;
        outputs.push(output);
    }
    let (mut sums, unread) = Sums::new(source, plan);
    let chunks = chunks(source, plan, &mut sums);
    let kernel = if options.reference_kernels { kernels::reference } else { kernels::quantize };
    let written = AtomicU64::new(0);
    let job = Job {
        source,
        plan,
        outputs: &outputs,
        chunks: &chunks,
        sums: &sums,
        unread: &unread,
        kernel,
        observer,
        written: &written,
    };
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flusher = scope.spawn(|| flush_along(&outputs, &written, &done));
        let worked = job.run(options.threads);
        done.store(true, Ordering::Relaxed);
        let died = |_| Err(Error::new(Code::Engine, &source.dir, "the flushing thread died", "report this"));
        let flushed = flusher.join().unwrap_or_else(died);
        worked.and(flushed)
    })?;
    sums.check()?;
    source.unchanged()?;
    observer.finishing();
    for output in &outputs {
        output.sync()?;
    }
    for output in outputs {
        output.publish()?;
    }
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
            output.sync()?;
        }
    }
    Ok(())
}

/// Bytes of memory a conversion takes, at most and roughly: what each thread holds of a chunk (source, f32, f32 in order,
/// blocks), the headers, and the program itself.
#[must_use]
pub fn memory_needed(plan: &Plan, threads: NonZeroUsize) -> u64 {
    let chunk = plan.tensors.iter().map(|t| CHUNK.max(t.n_per_row())).max().unwrap_or(CHUNK);
    let headers: u64 = plan.outputs.iter().map(|o| o.header.len() as u64).sum();
    threads.get() as u64 * chunk * 16 + headers * 2 + (32 << 20)
}

/// Every row of every tensor, in the order of the source files so that the disk is read forward.
fn chunks(source: &Checkpoint, plan: &Plan, sums: &mut Sums<'_>) -> Vec<Chunk> {
    let mut order: Vec<usize> = (0..plan.tensors.len()).collect();
    let at = |i: &usize| source.tensors.get(plan.tensors[*i].source).map(|t| (t.shard, t.offset));
    order.sort_by_key(at);
    let mut all = Vec::new();
    for tensor in order {
        let t = &plan.tensors[tensor];
        let fit = (CHUNK / t.n_per_row().max(1)).max(1);
        // interleaving takes rows from both halves of a head, so a chunk has whole heads
        let unit = if t.layout == Layout::RotaryPairs { u64::from(source.config.head_dim) } else { 1 };
        let step = (fit / unit).max(1) * unit;
        let mut first_row = 0;
        while first_row < t.n_rows() {
            let rows = step.min(t.n_rows() - first_row);
            let piece = sums.piece(tensor, rows * (t.source_bytes / t.n_rows()));
            all.push(Chunk { tensor, first_row, rows, piece });
            first_row += rows;
        }
    }
    all
}

/// [`kernels::quantize`] or [`kernels::reference`].
type Kernel = fn(GgmlType, &[f32], usize, Option<&[f32]>, &mut [u8]) -> std::result::Result<(), llama_ext::Error>;

struct Job<'a> {
    source: &'a Checkpoint,
    plan: &'a Plan,
    outputs: &'a [Output],
    chunks: &'a [Chunk],
    sums: &'a Sums<'a>,
    unread: &'a [Unread],
    kernel: Kernel,
    observer: &'a dyn Observer,
    /// Bytes written so far, all outputs together.
    written: &'a AtomicU64,
}

/// One thread's memory.
#[derive(Default)]
struct Buffers {
    reader: Reader,
    packed: Vec<u8>,
}

impl Job<'_> {
    /// Runs all chunks, then what no chunk reads of storages whose sums are checked.
    fn run(&self, threads: NonZeroUsize) -> Result<()> {
        let count = self.chunks.len() + self.unread.len();
        pool::each(threads, count, &self.source.dir, |number, buffers: &mut Buffers| {
            self.going_on()?;
            match self.chunks.get(number) {
                Some(chunk) => self.one(*chunk, buffers),
                None => self.sums.read(self.unread[number - self.chunks.len()], buffers.reader.bytes()),
            }
        })
    }

    fn going_on(&self) -> Result<()> {
        if self.observer.cancelled() {
            return Err(Error::new(Code::Interrupted, &self.source.dir, "stopped; no file was kept", "run it again"));
        }
        Ok(())
    }

    fn one(&self, chunk: Chunk, buffers: &mut Buffers) -> Result<()> {
        let tensor = &self.plan.tensors[chunk.tensor];
        let from = &self.source.tensors[tensor.source];
        let read = buffers.reader.read(self.source, tensor, (chunk.first_row, chunk.rows))?;
        if let Some(piece) = chunk.piece {
            self.sums.keep(piece, read.bytes);
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
            let offset = planned.offsets[chunk.tensor] + row_bytes * chunk.first_row;
            write_all_at(output.file(), bytes, offset)
                .map_err(|err| Error::io(output.path(), &format!("write tensor '{}'", tensor.name), &err))?;
            self.written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        self.observer.advanced(&tensor.name, tensor.source_bytes / tensor.n_rows() * chunk.rows);
        Ok(())
    }
}

/// Sizes of one chunk: bounded by [`CHUNK`] and by one head's rows.
fn narrow(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
