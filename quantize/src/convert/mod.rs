//! Converts a local checkpoint in one pass: each tensor is read once, in chunks of rows, and written to every output at
//! its planned offset.
//!
//! Threads: the caller and `threads` − 1 workers convert chunks; one thread flushes the outputs, one computes the
//! SHA-256s of the weight files. Each converting thread owns four buffers of a few MiB. Remote weights: `streaming/`.

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
use chunks::rows_per_chunk;
use source_sha256::SourceHashes;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use storage_crc::StorageCrcs;

/// Bytes written between two fsyncs.
const FLUSH: u64 = 128 << 20;

/// Converts `source` to all outputs of `plan`. The outputs get their final names when all of them are complete and on
/// disk; after an earlier error or cancellation there is no output. If the SHA-256 of a weight file is known, it is
/// verified.
///
/// # Errors
/// [`Error`] naming the file and tensor, for example [`Code::DiskFull`], [`Code::OutputExists`], [`Code::Sha256`] or
/// [`Code::Interrupted`].
pub fn convert(source: &Checkpoint, plan: &Plan, options: ConvertOptions, observer: &dyn Observer) -> Result<Report> {
    space::check(plan.outputs.iter().map(|o| (o.path.as_path(), o.len)))?;
    let mut outputs = Vec::with_capacity(plan.outputs.len());
    for planned in &plan.outputs {
        let output = Output::create(&planned.path, planned.len, options.replace)?;
        write_all_at(output.file(), &planned.header, 0)
            .map_err(|err| Error::io(output.path(), "write the header", &err))?;
        outputs.push(output);
    }
    let (mut crcs, uncovered) = StorageCrcs::new(source, plan);
    let chunks = chunks(source, plan, Some(&mut crcs));
    let hashes = SourceHashes::new(source, observer);
    let converter =
        ChunkConverter::new(source, plan, &outputs, &chunks, source, options, observer).with_crcs(&crcs, &uncovered);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // if these threads cannot be started, everything is flushed and hashed at the end
        let alongside = std::thread::Builder::new();
        let flusher = alongside
            .spawn_scoped(scope, || {
                converter.run_alongside(|| flush_while_converting(&outputs, &converter.written, &done))
            })
            .ok();
        let alongside = std::thread::Builder::new();
        let hasher = alongside
            .spawn_scoped(scope, || converter.run_alongside(|| hashes.hash_alongside(&done, || converter.position())))
            .ok();
        let worked = converter.run(options.threads, 0);
        done.store(true, Ordering::Relaxed);
        let worked = worked.and_then(|()| hashes.hash_remaining(options.threads)).inspect_err(|_| hashes.stop());
        let defect = || Error::new(Code::Engine, &source.dir, "a thread panicked", "report this");
        let alongside =
            [flusher, hasher].map(|thread| thread.map_or(Ok(()), |t| t.join().unwrap_or_else(|_| Err(defect()))));
        // an error of these threads has stopped the workers, so it is reported first
        alongside.into_iter().collect::<Result<()>>().and(worked)
    })?;
    crcs.check()?;
    source.unchanged()?;
    observer.finishing();
    for output in &outputs {
        output.sync()?;
    }
    output::publish(outputs)?;
    Ok(Report { read: plan.source_bytes, written: plan.output_bytes() })
}

/// Fsyncs the outputs during the conversion; otherwise the system would delay most writes until the last fsync. The
/// operating system reports a failed fsync only once, so its error is returned.
fn flush_while_converting(outputs: &[Output], written: &AtomicU64, done: &AtomicBool) -> Result<()> {
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

/// Returns an upper estimate of the memory of a conversion in bytes: for each thread four buffers of one chunk (source
/// bytes, f32, reordered f32, blocks), at 4 bytes per weight each; twice the headers; and 32 MiB for the program.
#[must_use]
pub fn memory_needed(plan: &Plan, threads: NonZeroUsize) -> u64 {
    let weights = |t: &PlannedTensor| t.n_per_row().saturating_mul(rows_per_chunk(t, plan.head_dim).min(t.n_rows()));
    let chunk = plan.tensors.iter().map(weights).max().unwrap_or(0);
    let headers = plan.outputs.iter().fold(0_u64, |sum, o| sum.saturating_add(o.header.len() as u64));
    let threads = threads.get().min(worker_pool::MAX_THREADS) as u64;
    threads.saturating_mul(chunk).saturating_mul(16).saturating_add(headers.saturating_mul(2)).saturating_add(32 << 20)
}
