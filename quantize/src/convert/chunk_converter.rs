//! Converts chunks on several threads: reads rows, converts them to f32, quantizes them to every type, writes them.

use super::chunks::Chunk;
use super::f32_rows::RowReader;
use super::options::ConvertOptions;
use super::overflow_check;
use super::storage_crc::{StorageCrcs, UncoveredChunk};
use crate::checkpoint::Checkpoint;
use crate::error::{Code, Error, Result};
use crate::integers::to_usize;
use crate::kernels;
use crate::llama_tensors::{Layout, rotary_source_row};
use crate::observer::Observer;
use crate::output::Output;
use crate::plan::Plan;
use crate::platform::write_all_at;
use crate::worker_pool;
use llama_ext::GgmlType;
use std::io;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Source of the bytes of the chunks: a local checkpoint, or the segments of a remote one.
pub(crate) trait ChunkSource: Sync {
    /// Fills `buf` with the bytes of shard number `shard` from `offset`.
    fn read(&self, shard: usize, buf: &mut [u8], offset: u64) -> io::Result<()>;

    /// Called when chunk number `_chunk` is written.
    fn on_written(&self, _chunk: usize) {}

    /// The error text after a cancellation.
    fn cancel_message(&self) -> &'static str {
        "stopped; no file was kept"
    }
}

impl ChunkSource for Checkpoint {
    fn read(&self, shard: usize, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.shards[shard].bytes.read_exact_at(buf, offset)
    }
}

/// [`kernels::quantize`] or [`kernels::reference`].
type Kernel = fn(GgmlType, &[f32], usize, Option<&[f32]>, &mut [u8]) -> std::result::Result<(), llama_ext::Error>;

/// A conversion of chunks into outputs.
pub(crate) struct ChunkConverter<'a> {
    source: &'a Checkpoint,
    plan: &'a Plan,
    outputs: &'a [Output],
    chunks: &'a [Chunk],
    chunk_source: &'a dyn ChunkSource,
    /// Storages whose CRC-32 is checked, and their parts outside all chunks.
    crcs: Option<(&'a StorageCrcs<'a>, &'a [UncoveredChunk])>,
    kernel: Kernel,
    observer: &'a dyn Observer,
    /// Bytes written to all outputs so far.
    pub(super) written: AtomicU64,
    /// Highest chunk that was started.
    started: AtomicUsize,
    /// Whether a thread of [`Self::run_alongside`] failed.
    broken: AtomicBool,
}

/// The buffers of a thread.
#[derive(Default)]
struct Buffers {
    reader: RowReader,
    packed: Vec<u8>,
}

impl<'a> ChunkConverter<'a> {
    /// Prepares the conversion of `chunks`, without checking CRC-32s.
    pub(crate) fn new(
        source: &'a Checkpoint,
        plan: &'a Plan,
        outputs: &'a [Output],
        chunks: &'a [Chunk],
        chunk_source: &'a dyn ChunkSource,
        options: ConvertOptions,
        observer: &'a dyn Observer,
    ) -> Self {
        let kernel: Kernel = if options.reference_kernels { kernels::reference } else { kernels::quantize };
        let (written, started, broken) = (AtomicU64::new(0), AtomicUsize::new(0), AtomicBool::new(false));
        Self { source, plan, outputs, chunks, chunk_source, crcs: None, kernel, observer, written, started, broken }
    }

    /// Also checks the CRC-32s of the storages; `uncovered` is read for this only.
    pub(super) fn with_crcs(self, crcs: &'a StorageCrcs<'a>, uncovered: &'a [UncoveredChunk]) -> Self {
        Self { crcs: Some((crcs, uncovered)), ..self }
    }

    /// Converts all chunks from number `first` on, then reads the parts of storages outside all chunks.
    pub(crate) fn run(&self, threads: NonZeroUsize, first: usize) -> Result<()> {
        let rest = self.chunks.len() - first.min(self.chunks.len());
        let count = rest + self.crcs.map_or(0, |(_, uncovered)| uncovered.len());
        worker_pool::run(threads, count, &self.source.dir, |number, buffers: &mut Buffers| {
            self.check_cancelled()?;
            match (self.chunks.get(first + number), self.crcs) {
                (Some(chunk), _) => {
                    self.started.fetch_max(first + number, Ordering::Relaxed);
                    self.convert_chunk(*chunk, buffers)?;
                    self.chunk_source.on_written(first + number);
                    Ok(())
                }
                (None, Some((crcs, uncovered))) => crcs.read(uncovered[number - rest], buffers.reader.bytes()),
                (None, None) => Ok(()),
            }
        })
    }

    /// Runs `work` on the current thread, which is not a worker. An error or panic in `work` stops the workers.
    pub(super) fn run_alongside(&self, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let died = |_| Err(Error::new(Code::Engine, &self.source.dir, "a thread panicked", "report this"));
        let done = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(died);
        done.inspect_err(|_| self.broken.store(true, Ordering::Relaxed))
    }

    /// Returns the read position of the workers: shard and offset.
    pub(super) fn position(&self) -> (usize, u64) {
        let Some(chunk) = self.chunks.get(self.started.load(Ordering::Relaxed)) else { return (0, 0) };
        let tensor = &self.plan.tensors[chunk.tensor];
        let from = &self.source.tensors[tensor.source];
        (from.shard, from.offset.saturating_add(tensor.source_bytes / tensor.n_rows().max(1) * chunk.first_row))
    }

    /// Returns an error when the observer cancels or a thread of [`Self::run_alongside`] failed.
    fn check_cancelled(&self) -> Result<()> {
        if self.broken.load(Ordering::Relaxed) || self.observer.cancelled() {
            let what = self.chunk_source.cancel_message();
            return Err(Error::new(Code::Interrupted, &self.source.dir, what, "run it again"));
        }
        Ok(())
    }

    /// Converts one chunk and writes it to all outputs.
    fn convert_chunk(&self, chunk: Chunk, buffers: &mut Buffers) -> Result<()> {
        let tensor = &self.plan.tensors[chunk.tensor];
        let from = &self.source.tensors[tensor.source];
        let bytes = |buf: &mut [u8], offset| self.chunk_source.read(from.shard, buf, offset);
        let read = buffers.reader.read(self.source, &bytes, tensor, (chunk.first_row, chunk.rows))?;
        if let (Some(crc_chunk), Some((crcs, _))) = (chunk.crc_chunk, self.crcs) {
            crcs.store(crc_chunk, read.bytes);
        }
        let n_per_row = to_usize(tensor.n_per_row());
        let importance = self.plan.importance[chunk.tensor].as_deref();
        for (number, output) in self.outputs.iter().enumerate() {
            let planned = &self.plan.outputs[number];
            if !planned.tensors.contains(&chunk.tensor) {
                continue;
            }
            let ggml_type = planned.types[chunk.tensor];
            let row_bytes = planned.sizes[chunk.tensor] / tensor.n_rows();
            // blocks that already have the type are copied, as in llama-quantize
            let bytes = if ggml_type == from.dtype && ggml_type.block_size() > 1 {
                read.bytes
            } else {
                buffers.packed.resize(to_usize(row_bytes * chunk.rows), 0);
                (self.kernel)(ggml_type, read.weights, n_per_row, importance, &mut buffers.packed).map_err(|err| {
                    Error::new(Code::Engine, output.path(), format!("{}: {err}", tensor.name), "report this")
                })?;
                &buffers.packed
            };
            let quantized = overflow_check::QuantizedRows { ggml_type, bytes, n_per_row, importance };
            if let Some(at) = overflow_check::find_lost(&quantized, read.weights, read.largest) {
                return Err(self.out_of_range(chunk, ggml_type, at, read.weights[at]));
            }
            let offset = planned.offsets[chunk.tensor] + row_bytes * chunk.first_row;
            write_all_at(output.file(), bytes, offset)
                .map_err(|err| Error::io(output.path(), &format!("write tensor '{}'", tensor.name), &err))?;
            self.written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        self.observer.advanced(&tensor.name, chunk.bytes(self.plan));
        Ok(())
    }

    /// The error for weight number `at` of a chunk, which the type cannot represent.
    fn out_of_range(&self, chunk: Chunk, ggml_type: GgmlType, at: usize, value: f32) -> Error {
        let tensor = &self.plan.tensors[chunk.tensor];
        let from = &self.source.tensors[tensor.source];
        let columns = to_usize(tensor.n_per_row()).max(1);
        let (mut row, column) = (at / columns, at % columns);
        if tensor.layout == Layout::RotaryPairs {
            row = rotary_source_row(row, self.source.config.head_dim as usize);
        }
        let row = chunk.first_row + row as u64;
        let what = format!(
            "tensor '{}' has {value} at row {row}, column {column}, which {ggml_type} cannot represent",
            from.name
        );
        let fix = "choose BF16 or F32, or download the checkpoint again: so large a weight is often a sign of damage";
        Error::new(Code::TensorValue, &self.source.shards[from.shard].path, what, fix)
    }
}
