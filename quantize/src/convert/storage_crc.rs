//! The CRC32 of PyTorch's storages, checked without reading anything twice.
//!
//! A storage is read in chunks, by several threads, in any order. Each chunk's own sum is kept, and when all is read they
//! are combined in the order of the file. Where tensors do not cover a storage as a whole and in order (views, storages
//! that are shared in parts), it is read for the sum alone. Outputs are given their names only after [`StorageCrcs::check`].

use crate::checkpoint::{Checkpoint, StorageCrc, crc_mismatch};
use crate::convert::read_rows;
use crate::error::{Code, Error, Result};
use crate::plan::Plan;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

/// Bytes of one chunk of a storage that is read for its sum alone.
const UNCOVERED_CHUNK: u64 = 1 << 20;

/// A chunk of a storage: which storage, and which of its chunks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CrcChunk {
    storage: usize,
    number: usize,
}

/// A chunk that no tensor's chunk is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UncoveredChunk {
    offset: u64,
    len: u64,
    chunk: CrcChunk,
}

/// A storage that is in use.
struct Storage {
    shard: usize,
    /// Index into the shard's sums.
    sum: usize,
    /// Length and, once it was read, CRC32 of each chunk in order.
    chunks: Vec<(u64, OnceLock<u32>)>,
}

/// All storages that the tensors of a plan lie in.
pub(crate) struct StorageCrcs<'a> {
    source: &'a Checkpoint,
    storages: Vec<Storage>,
    /// Planned tensors that cover a storage, alone or one after another, and the storage.
    covered: HashMap<usize, usize>,
}

impl<'a> StorageCrcs<'a> {
    /// Finds the storages. Those that tensors cover get their chunks from [`Self::next_chunk`]; the others are listed.
    pub(crate) fn new(source: &'a Checkpoint, plan: &Plan) -> (Self, Vec<UncoveredChunk>) {
        let mut found: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
        for (number, planned) in plan.tensors.iter().enumerate() {
            let t = &source.tensors[planned.source];
            let sums = &source.shards[t.shard].sums;
            let Some(i) = sums.partition_point(|s| s.offset <= t.offset).checked_sub(1) else { continue };
            if t.offset < sums[i].offset + sums[i].len {
                found.entry((t.shard, i)).or_default().push(number);
            } // else it is in a storage without a sum
        }
        let mut all = Self { source, storages: Vec::new(), covered: HashMap::new() };
        let mut unread = Vec::new();
        for ((shard, sum), tensors) in found {
            let storage = all.storages.len();
            all.storages.push(Storage { shard, sum, chunks: Vec::new() });
            let covering = covering(source, plan, &source.shards[shard].sums[sum], tensors);
            if !covering.is_empty() {
                all.covered.extend(covering.into_iter().map(|tensor| (tensor, storage)));
                continue;
            }
            let about = &source.shards[shard].sums[sum];
            let mut done = 0;
            while done < about.len {
                let len = UNCOVERED_CHUNK.min(about.len - done);
                let chunk = all.add_chunk(storage, len);
                unread.push(UncoveredChunk { offset: about.offset + done, len, chunk });
                done += len;
            }
        }
        (all, unread)
    }

    /// The next `len` bytes of planned tensor `tensor`, if it is one that covers a storage. Asked in the order of the file.
    pub(crate) fn next_chunk(&mut self, tensor: usize, len: u64) -> Option<CrcChunk> {
        let storage = *self.covered.get(&tensor)?;
        Some(self.add_chunk(storage, len))
    }

    fn add_chunk(&mut self, storage: usize, len: u64) -> CrcChunk {
        let chunks = &mut self.storages[storage].chunks;
        chunks.push((len, OnceLock::new()));
        CrcChunk { storage, number: chunks.len() - 1 }
    }

    /// Keeps the sum of `bytes`, which are those of `chunk`.
    pub(crate) fn store(&self, chunk: CrcChunk, bytes: &[u8]) {
        let (_, kept) = &self.storages[chunk.storage].chunks[chunk.number];
        kept.get_or_init(|| crc32fast::hash(bytes));
    }

    /// Reads a chunk for its sum alone.
    pub(crate) fn read(&self, unread: UncoveredChunk, bytes: &mut Vec<u8>) -> Result<()> {
        let storage = &self.storages[unread.chunk.storage];
        let shard = &self.source.shards[storage.shard];
        bytes.resize(usize::try_from(unread.len).unwrap_or(usize::MAX), 0);
        let read = |buf: &mut [u8], offset| shard.bytes.read_exact_at(buf, offset);
        read_rows::read_at(shard, &read, &shard.sums[storage.sum].name, bytes, unread.offset)?;
        self.store(unread.chunk, bytes);
        Ok(())
    }

    /// Compares every storage's sum, all chunks being read.
    ///
    /// # Errors
    /// [`Code::ZipCrc`] naming the first storage whose bytes are not those that were stored.
    pub(crate) fn check(&self) -> Result<()> {
        self.wrong().into_iter().next().map_or(Ok(()), Err)
    }

    /// Every storage whose bytes are not those that were stored, all chunks being read.
    pub(crate) fn wrong(&self) -> Vec<Error> {
        let all = self.storages.iter().filter_map(|storage| {
            let shard = &self.source.shards[storage.shard];
            let about = &shard.sums[storage.sum];
            let mut all = crc32fast::Hasher::new();
            for (len, kept) in &storage.chunks {
                let Some(sum) = kept.get() else {
                    let what = format!("a part of '{}' was not read", about.name);
                    return Some(Error::new(Code::Engine, &shard.path, what, "report this"));
                };
                all.combine(&crc32fast::Hasher::new_with_initial_len(*sum, *len));
            }
            let sum = all.finalize();
            (sum != about.crc).then(|| crc_mismatch(&shard.path, &about.name, about.offset, about.crc, sum))
        });
        all.collect()
    }
}

/// Those of the planned `tensors` that one after another are all of a storage's bytes; none if there is a gap.
fn covering(source: &Checkpoint, plan: &Plan, storage: &StorageCrc, mut tensors: Vec<usize>) -> Vec<usize> {
    let of = |number: usize| &source.tensors[plan.tensors[number].source];
    tensors.sort_by_key(|number| (of(*number).offset, Reverse(of(*number).bytes)));
    let mut at = storage.offset;
    tensors.retain(|number| {
        let t = of(*number);
        let next = t.offset == at && t.strides.is_none();
        at += if next { t.bytes } else { 0 };
        next
    });
    if at == storage.offset + storage.len { tensors } else { Vec::new() }
}
