//! Checks the CRC-32s of PyTorch's storages during a conversion, mostly without extra reads.
//!
//! Threads read the chunks of a storage in any order. The CRC-32 of each chunk is stored, and they are combined in file
//! order at the end ([`StorageCrcs::check`]). A storage that tensors do not cover completely and in order (views,
//! shared storages) is read separately. `streaming/checksum.rs` checks the CRC-32s of remote files.

use crate::checkpoint::{Checkpoint, StorageCrc, crc_mismatch};
use crate::convert::read_rows;
use crate::error::{Code, Error, Result};
use crate::plan::Plan;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

/// Bytes in an [`UncoveredChunk`].
const UNCOVERED_CHUNK: u64 = 1 << 20;

/// A chunk of a storage: index of the storage, and index of the chunk in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CrcChunk {
    storage: usize,
    number: usize,
}

/// A part of a storage that no tensor's chunk covers; it is read only for its CRC-32.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UncoveredChunk {
    offset: u64,
    len: u64,
    chunk: CrcChunk,
}

/// A storage with tensors in it.
struct Storage {
    shard: usize,
    /// Index into [`crate::checkpoint::Shard::crcs`].
    crc: usize,
    /// Length of each chunk, in order, and its CRC-32 once it is read.
    chunks: Vec<(u64, OnceLock<u32>)>,
}

/// The storages with the tensors of a plan.
pub(crate) struct StorageCrcs<'a> {
    source: &'a Checkpoint,
    storages: Vec<Storage>,
    /// Planned tensor → storage, for tensors that cover their storage together.
    covered: HashMap<usize, usize>,
}

impl<'a> StorageCrcs<'a> {
    /// Finds the storages. Those that tensors cover get their chunks from [`Self::next_chunk`]; the chunks of the
    /// others are returned.
    pub(crate) fn new(source: &'a Checkpoint, plan: &Plan) -> (Self, Vec<UncoveredChunk>) {
        let mut found: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
        for (number, planned) in plan.tensors.iter().enumerate() {
            let t = &source.tensors[planned.source];
            let crcs = &source.shards[t.shard].crcs;
            let Some(i) = crcs.partition_point(|s| s.offset <= t.offset).checked_sub(1) else { continue };
            if t.offset < crcs[i].offset + crcs[i].len {
                found.entry((t.shard, i)).or_default().push(number);
            } // else the storage has no CRC-32
        }
        let mut all = Self { source, storages: Vec::new(), covered: HashMap::new() };
        let mut unread = Vec::new();
        for ((shard, crc), tensors) in found {
            let storage = all.storages.len();
            all.storages.push(Storage { shard, crc, chunks: Vec::new() });
            let covering = covering(source, plan, &source.shards[shard].crcs[crc], tensors);
            if !covering.is_empty() {
                all.covered.extend(covering.into_iter().map(|tensor| (tensor, storage)));
                continue;
            }
            let storage_crc = &source.shards[shard].crcs[crc];
            let mut done = 0;
            while done < storage_crc.len {
                let len = UNCOVERED_CHUNK.min(storage_crc.len - done);
                let chunk = all.add_chunk(storage, len);
                unread.push(UncoveredChunk { offset: storage_crc.offset + done, len, chunk });
                done += len;
            }
        }
        (all, unread)
    }

    /// Adds the next `len` bytes of the planned tensor `tensor`; `None` if it does not cover a storage. Must be called
    /// in file order.
    pub(crate) fn next_chunk(&mut self, tensor: usize, len: u64) -> Option<CrcChunk> {
        let storage = *self.covered.get(&tensor)?;
        Some(self.add_chunk(storage, len))
    }

    fn add_chunk(&mut self, storage: usize, len: u64) -> CrcChunk {
        let chunks = &mut self.storages[storage].chunks;
        chunks.push((len, OnceLock::new()));
        CrcChunk { storage, number: chunks.len() - 1 }
    }

    /// Stores the CRC-32 of `chunk`, whose bytes are `bytes`.
    pub(crate) fn store(&self, chunk: CrcChunk, bytes: &[u8]) {
        let (_, stored) = &self.storages[chunk.storage].chunks[chunk.number];
        stored.get_or_init(|| crc32fast::hash(bytes));
    }

    /// Reads an uncovered chunk and stores its CRC-32.
    pub(crate) fn read(&self, unread: UncoveredChunk, bytes: &mut Vec<u8>) -> Result<()> {
        let storage = &self.storages[unread.chunk.storage];
        let shard = &self.source.shards[storage.shard];
        bytes.resize(usize::try_from(unread.len).unwrap_or(usize::MAX), 0);
        let read = |buf: &mut [u8], offset| shard.bytes.read_exact_at(buf, offset);
        read_rows::read_at(shard, &read, &shard.crcs[storage.crc].name, bytes, unread.offset)?;
        self.store(unread.chunk, bytes);
        Ok(())
    }

    /// Checks the CRC-32 of every storage, after all chunks were read.
    ///
    /// # Errors
    /// [`Code::ZipCrc`] naming the first storage with another CRC-32.
    pub(crate) fn check(&self) -> Result<()> {
        self.mismatches().into_iter().next().map_or(Ok(()), Err)
    }

    /// Returns an error for each storage with another CRC-32, after all chunks were read.
    pub(crate) fn mismatches(&self) -> Vec<Error> {
        let all = self.storages.iter().filter_map(|storage| {
            let shard = &self.source.shards[storage.shard];
            let storage_crc = &shard.crcs[storage.crc];
            let mut all = crc32fast::Hasher::new();
            for (len, stored) in &storage.chunks {
                let Some(crc) = stored.get() else {
                    let what = format!("part of '{}' was not read", storage_crc.name);
                    return Some(Error::new(Code::Engine, &shard.path, what, "report this"));
                };
                all.combine(&crc32fast::Hasher::new_with_initial_len(*crc, *len));
            }
            let found = all.finalize();
            (found != storage_crc.crc)
                .then(|| crc_mismatch(&shard.path, &storage_crc.name, storage_crc.offset, storage_crc.crc, found))
        });
        all.collect()
    }
}

/// Returns those of the planned `tensors` that together cover the storage without gaps; none if there is a gap.
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
