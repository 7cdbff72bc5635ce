//! The one pass: every tensor is read once, in chunks of rows, and written to every output at the offset the plan gave.
//!
//! Chunks go over a pool of threads. Each thread has its own three buffers (source bytes, f32, quantized bytes), so the
//! memory is threads × a few MiB whatever the model's size, and while one thread waits for the disk another computes.

mod chunk_converter;
mod chunks;
pub(crate) mod f32_rows;
mod options;
mod overflow_check;
pub(crate) mod read_rows;
mod source_sha256;
pub(crate) mod storage_crc;

pub(crate) use chunk_converter::{ChunkConverter, ChunkSource};
pub(crate) use chunks::{CHUNK_WEIGHTS, Chunk, chunks};
pub use options::{ConvertOptions, Report};

use crate::checkpoint::Checkpoint;
use crate::error::{Code, Error, Result};
use crate::observer::Observer;
use crate::output::{self, Output};
use crate::plan::{Plan, PlannedTensor};
use crate::platform::write_all_at;
use crate::space;
use crate::worker_pool;
use chunks::step;
use source_sha256::SourceHashes;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use storage_crc::StorageCrcs;

/// Bytes written between two flushes.
const FLUSH: u64 = 128 << 20;

/// Writes every output of `plan`. They appear under their names only when all of them are complete and on disk; on any
/// error, and when the observer cancels, none does. Where a weight file's sha256 is known, the file has it, or there is no
/// output.
///
/// # Errors
/// [`Error`] naming the file and tensor.
pub fn convert(source: &Checkpoint, plan: &Plan, options: ConvertOptions, observer: &dyn Observer) -> Result<Report> {
    space::check(plan.outputs.iter().map(|o| (o.path.as_path(), o.len)))?;
    let mut outputs = Vec::with_capacity(plan.outputs.len());
    for planned in &plan.outputs {
        let output = Output::create(&planned.path, planned.len, options.replace)?;
        write_all_at(output.file(), &planned.header, 0)
            .map_err(|err| Error::io(output.path(), "write the header", &err))?;
        outputs.push(output);
    }
    let (mut sums, unread) = StorageCrcs::new(source, plan);
    let chunks = chunks(source, plan, Some(&mut sums));
    let hashes = SourceHashes::new(source, observer);
    let job = ChunkConverter::new(source, plan, &outputs, &chunks, source, options, observer).with_sums(&sums, &unread);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // without a thread for it, all is flushed and hashed at the end
        let alongside = std::thread::Builder::new();
        let flusher =
            alongside.spawn_scoped(scope, || job.alongside(|| flush_alongside(&outputs, &job.written, &done))).ok();
        let alongside = std::thread::Builder::new();
        let hasher =
            alongside.spawn_scoped(scope, || job.alongside(|| hashes.hash_alongside(&done, || job.position()))).ok();
        let worked = job.run(options.threads, 0);
        done.store(true, Ordering::Relaxed);
        let worked = worked.and_then(|()| hashes.hash_remaining(options.threads)).inspect_err(|_| hashes.stop());
        let defect = || Error::new(Code::Engine, &source.dir, "a thread died", "report this");
        let alongside =
            [flusher, hasher].map(|thread| thread.map_or(Ok(()), |t| t.join().unwrap_or_else(|_| Err(defect()))));
        // what went wrong alongside stopped the workers
        alongside.into_iter().collect::<Result<()>>().and(worked)
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
fn flush_alongside(outputs: &[Output], written: &AtomicU64, done: &AtomicBool) -> Result<()> {
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
    let threads = threads.get().min(worker_pool::MAX_THREADS) as u64;
    threads.saturating_mul(chunk).saturating_mul(16).saturating_add(headers.saturating_mul(2)).saturating_add(32 << 20)
}
