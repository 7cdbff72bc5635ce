//! Converts chunks on a pool of threads: read, widen, quantize to every type, write.

use super::chunks::Chunk;
use super::f32_rows::RowReader;
use super::options::ConvertOptions;
use super::overflow_check;
use super::storage_crc::{StorageCrcs, UncoveredChunk};
use crate::checkpoint::Checkpoint;
use crate::error::{Code, Error, Result};
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

/// Where the bytes of the chunks come from.
pub(crate) trait ChunkSource: Sync {
    /// Fills `buf` with the bytes of a shard from `offset`.
    fn read(&self, shard: usize, buf: &mut [u8], offset: u64) -> io::Result<()>;

    /// A chunk is converted and written.
    fn done(&self, _chunk: usize) {}

    /// What is said when it is stopped.
    fn cancel_message(&self) -> &'static str {
        "stopped; no file was kept"
    }
}

/// The shards are all here.
impl ChunkSource for Checkpoint {
    fn read(&self, shard: usize, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.shards[shard].bytes.read_exact_at(buf, offset)
    }
}

/// [`kernels::quantize`] or [`kernels::reference`].
type Kernel = fn(GgmlType, &[f32], usize, Option<&[f32]>, &mut [u8]) -> std::result::Result<(), llama_ext::Error>;

/// Chunks to be converted into outputs.
pub(crate) struct ChunkConverter<'a> {
    source: &'a Checkpoint,
    plan: &'a Plan,
    outputs: &'a [Output],
    chunks: &'a [Chunk],
    chunk_source: &'a dyn ChunkSource,
    /// The sums to take, and what is read for them alone.
    sums: Option<(&'a StorageCrcs<'a>, &'a [UncoveredChunk])>,
    kernel: Kernel,
    observer: &'a dyn Observer,
    /// Bytes written so far, all outputs together.
    pub(super) written: AtomicU64,
    /// The last chunk that was begun.
    begun: AtomicUsize,
    /// Something that runs beside the workers failed.
    broken: AtomicBool,
}

/// One thread's memory.
#[derive(Default)]
struct Buffers {
    reader: RowReader,
    packed: Vec<u8>,
}

impl<'a> ChunkConverter<'a> {
    /// All of `chunks`, without sums.
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
        let (written, begun, broken) = (AtomicU64::new(0), AtomicUsize::new(0), AtomicBool::new(false));
        Self { source, plan, outputs, chunks, chunk_source, sums: None, kernel, observer, written, begun, broken }
    }

    /// Checks the CRC32 of the source's storages too; `unread` is read for its checksum only.
    pub(super) fn with_sums(self, sums: &'a StorageCrcs<'a>, unread: &'a [UncoveredChunk]) -> Self {
        Self { sums: Some((sums, unread)), ..self }
    }

    /// Runs all chunks from number `first`, then what no chunk reads of storages whose sums are checked.
    pub(crate) fn run(&self, threads: NonZeroUsize, first: usize) -> Result<()> {
        let rest = self.chunks.len() - first.min(self.chunks.len());
        let count = rest + self.sums.map_or(0, |(_, unread)| unread.len());
        worker_pool::run(threads, count, &self.source.dir, |number, buffers: &mut Buffers| {
            self.check_cancelled()?;
            match (self.chunks.get(first + number), self.sums) {
                (Some(chunk), _) => {
                    self.begun.fetch_max(first + number, Ordering::Relaxed);
                    self.convert_chunk(*chunk, buffers)?;
                    self.chunk_source.done(first + number);
                    Ok(())
                }
                (None, Some((sums, unread))) => sums.read(unread[number - rest], buffers.reader.bytes()),
                (None, None) => Ok(()),
            }
        })
    }

    /// Runs `work` on a thread beside the workers; when it fails, they stop.
    pub(super) fn alongside(&self, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let died = |_| Err(Error::new(Code::Engine, &self.source.dir, "a thread died", "report this"));
        let done = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(died);
        done.inspect_err(|_| self.broken.store(true, Ordering::Relaxed))
    }

    /// Where in the source the workers are: file and offset.
    pub(super) fn position(&self) -> (usize, u64) {
        let Some(chunk) = self.chunks.get(self.begun.load(Ordering::Relaxed)) else { return (0, 0) };
        let tensor = &self.plan.tensors[chunk.tensor];
        let from = &self.source.tensors[tensor.source];
        (from.shard, from.offset.saturating_add(tensor.source_bytes / tensor.n_rows().max(1) * chunk.first_row))
    }

    fn check_cancelled(&self) -> Result<()> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(Error::new(
                Code::Interrupted,
                &self.source.dir,
                self.chunk_source.cancel_message(),
                "run it again",
            ));
        }
        if self.observer.cancelled() {
            return Err(Error::new(
                Code::Interrupted,
                &self.source.dir,
                self.chunk_source.cancel_message(),
                "run it again",
            ));
        }
        Ok(())
    }

    fn convert_chunk(&self, chunk: Chunk, buffers: &mut Buffers) -> Result<()> {
        let tensor = &self.plan.tensors[chunk.tensor];
        let from = &self.source.tensors[tensor.source];
        let bytes = |buf: &mut [u8], offset| self.chunk_source.read(from.shard, buf, offset);
        let read = buffers.reader.read(self.source, &bytes, tensor, (chunk.first_row, chunk.rows))?;
        if let (Some(crc_chunk), Some((sums, _))) = (chunk.crc_chunk, self.sums) {
            sums.store(crc_chunk, read.bytes);
        }
        let n_per_row = to_usize(tensor.n_per_row());
        let importance = self.plan.importance[chunk.tensor].as_deref();
        for (number, output) in self.outputs.iter().enumerate() {
            let planned = &self.plan.outputs[number];
            let ggml_type = planned.types[chunk.tensor];
            let row_bytes = planned.sizes[chunk.tensor] / tensor.n_rows();
            // blocks that have the type already are taken over, as llama-quantize does
            let bytes = if ggml_type == from.dtype && ggml_type.block_size() > 1 {
                read.bytes
            } else {
                buffers.packed.resize(to_usize(row_bytes * chunk.rows), 0);
                (self.kernel)(ggml_type, read.weights, n_per_row, importance, &mut buffers.packed).map_err(|err| {
                    Error::new(Code::Engine, output.path(), format!("{}: {err}", tensor.name), "report this")
                })?;
                &buffers.packed
            };
            let made = overflow_check::QuantizedRows { ggml_type, bytes, n_per_row, importance };
            if let Some(at) = overflow_check::find_lost(&made, read.weights, read.largest) {
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

    /// The weight number `at` of a chunk cannot be stored.
    fn out_of_range(&self, chunk: Chunk, ggml_type: GgmlType, at: usize, value: f32) -> Error {
        let tensor = &self.plan.tensors[chunk.tensor];
        let from = &self.source.tensors[tensor.source];
        let columns = to_usize(tensor.n_per_row()).max(1);
        let (mut row, column) = (at / columns, at % columns);
        if tensor.layout == Layout::RotaryPairs {
            row = rotary_source_row(row, self.source.config.head_dim as usize);
        }
        let row = chunk.first_row + row as u64;
        let what =
            format!("tensor '{}' has {value} at row {row}, column {column}, which {ggml_type} cannot hold", from.name);
        let fix =
            "name a type that can (BF16 or F32), or download the checkpoint again: a weight this large is often damage";
        Error::new(Code::TensorValue, &self.source.shards[from.shard].path, what, fix)
    }
}

/// Sizes of one chunk: bounded by [`CHUNK`] and by one head's rows.
fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
