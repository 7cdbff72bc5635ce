//! Running checksums of a remote file: SHA-256, and the CRC-32 of the current storage. Both can be stored and resumed.

use crate::checkpoint::{Shard, crc_mismatch};
use crate::error::{Code, Error, Result};
use crate::hex::{hex, unhex};
use crate::integers::to_usize;
use sha2::digest::common::hazmat::{SerializableState as _, SerializedState};
use sha2::{Digest as _, Sha256};
use std::ops::Range;

/// The checksums of a file up to some offset.
#[derive(Clone, Debug, Default)]
pub(super) struct RunningChecksum {
    sha256: Sha256,
    /// CRC-32 of the current storage up to the offset.
    crc: u32,
}

impl RunningChecksum {
    /// Adds the next bytes of `shard`, at the offsets `span`.
    ///
    /// # Errors
    /// [`Code::ZipCrc`] when a storage ends in these bytes and its CRC-32 is wrong.
    pub(super) fn update(&mut self, shard: &Shard, span: Range<u64>, bytes: &[u8]) -> Result<()> {
        self.sha256.update(bytes);
        let first = shard.crcs.partition_point(|storage| storage.offset + storage.len <= span.start);
        for storage in &shard.crcs[first..] {
            let (begin, end) = (storage.offset, storage.offset + storage.len);
            if begin >= span.end {
                break;
            }
            let part = begin.max(span.start) - span.start..end.min(span.end) - span.start;
            let Some(part) = bytes.get(to_usize(part.start)..to_usize(part.end)) else { break };
            let before = if begin >= span.start { 0 } else { self.crc };
            let mut crc = crc32fast::Hasher::new_with_initial(before);
            crc.update(part);
            self.crc = crc.finalize();
            if end <= span.end && self.crc != storage.crc {
                return Err(crc_mismatch(&shard.path, &storage.name, storage.offset, storage.crc, self.crc));
            }
        }
        Ok(())
    }

    /// Compares the SHA-256 with the expected `sha256`, after all bytes of `shard` were added.
    ///
    /// # Errors
    /// [`Code::Sha256`] when it differs.
    pub(super) fn check(self, shard: &Shard, sha256: &str) -> Result<()> {
        let found = hex(&self.sha256.finalize());
        if found == sha256 {
            return Ok(());
        }
        let what = format!("SHA-256 mismatch: expected {sha256}, got {found}");
        let fix = "run it again: only this file is downloaded again";
        Err(Error::new(Code::Sha256, &shard.path, what, fix))
    }

    /// Returns the state of the SHA-256 in hexadecimal, and the CRC-32.
    pub(super) fn save(&self) -> (String, u32) {
        (hex(&self.sha256.serialize()), self.crc)
    }

    /// Restores the state that [`Self::save`] returned; `None` when it is invalid.
    pub(super) fn restore(state: &str, crc: u32) -> Option<Self> {
        let bytes = unhex(state)?;
        let state = SerializedState::<Sha256>::try_from(bytes.as_slice()).ok()?;
        Some(Self { sha256: Sha256::deserialize(&state).ok()?, crc })
    }
}

#[cfg(test)]
mod tests {
    use super::{RunningChecksum, hex};
    use sha2::{Digest as _, Sha256};

    #[test]
    fn resumes_a_saved_checksum_at_any_byte() {
        let whole: Vec<u8> = (0..1000_u32).map(|i| (i * 7) as u8).collect();
        let wanted = hex(&Sha256::digest(&whole));
        let shard = crate::checkpoint::Shard::new(
            std::path::Path::new("x"),
            std::sync::Arc::new(crate::byte_source::FileOnDisk::new(tempfile::tempfile().unwrap(), 0)),
        );
        for split in [0, 1, 63, 64, 65, 127, 500, 999, 1000] {
            let mut checksum = RunningChecksum::default();
            checksum.update(&shard, 0..split as u64, &whole[..split]).unwrap();
            let (state, crc) = checksum.save();
            let mut checksum = RunningChecksum::restore(&state, crc).unwrap();
            checksum.update(&shard, split as u64..1000, &whole[split..]).unwrap();
            checksum.check(&shard, &wanted).unwrap();
        }
        assert!(RunningChecksum::restore("12", 0).is_none() && RunningChecksum::restore("zz", 0).is_none());
    }
}
