//! What has passed of a file: its sha256 so far, and the CRC32 of the storage that is passing. Both can be written down
//! and gone on with, so a file that was stopped in the middle is not begun again.

use crate::checkpoint::{Shard, crc_mismatch};
use crate::error::{Code, Error, Result};
use crate::hex::{hex, unhex};
use sha2::digest::common::hazmat::{SerializableState as _, SerializedState};
use sha2::{Digest as _, Sha256};
use std::ops::Range;

/// The sums of a file's bytes up to some place.
#[derive(Clone, Debug, Default)]
pub(super) struct RunningChecksum {
    sha256: Sha256,
    /// Of the part of a storage that has passed.
    crc: u32,
}

impl RunningChecksum {
    /// Takes the next bytes of `shard`, which lie at `span`.
    ///
    /// # Errors
    /// [`Code::ZipCrc`] when a storage ends in them and its sum is not the one that is stored beside it.
    pub(super) fn update(&mut self, shard: &Shard, span: Range<u64>, bytes: &[u8]) -> Result<()> {
        self.sha256.update(bytes);
        let first = shard.sums.partition_point(|sum| sum.offset + sum.len <= span.start);
        for sum in &shard.sums[first..] {
            let (begin, end) = (sum.offset, sum.offset + sum.len);
            if begin >= span.end {
                break;
            }
            let part = begin.max(span.start) - span.start..end.min(span.end) - span.start;
            let narrow = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
            let Some(part) = bytes.get(narrow(part.start)..narrow(part.end)) else { break };
            let before = if begin >= span.start { 0 } else { self.crc };
            let mut crc = crc32fast::Hasher::new_with_initial(before);
            crc.update(part);
            self.crc = crc.finalize();
            if end <= span.end && self.crc != sum.crc {
                return Err(crc_mismatch(&shard.path, &sum.name, sum.offset, sum.crc, self.crc));
            }
        }
        Ok(())
    }

    /// Compares with `sha256`, all bytes of `shard` having passed.
    ///
    /// # Errors
    /// [`Code::Sha256`] when it is another.
    pub(super) fn check(self, shard: &Shard, sha256: &str) -> Result<()> {
        let found = hex(&self.sha256.finalize());
        if found == sha256 {
            return Ok(());
        }
        let what = format!("what arrived has sha256 {found}, listed is {sha256}");
        let fix = "run it again: this file is fetched anew, and what was right is kept";
        Err(Error::new(Code::Sha256, &shard.path, what, fix))
    }

    /// As text: the state of the hash in hexadecimal, and the CRC32.
    pub(super) fn write(&self) -> (String, u32) {
        (hex(&self.sha256.serialize()), self.crc)
    }

    /// What [`Self::write`] wrote.
    pub(super) fn read(state: &str, crc: u32) -> Option<Self> {
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
    fn a_sum_that_was_written_down_goes_on_from_any_byte() {
        let whole: Vec<u8> = (0..1000_u32).map(|i| (i * 7) as u8).collect();
        let wanted = hex(&Sha256::digest(&whole));
        let shard = crate::checkpoint::Shard::new(
            std::path::Path::new("x"),
            std::sync::Arc::new(crate::byte_source::FileOnDisk::new(tempfile::tempfile().unwrap(), 0)),
        );
        for cut in [0, 1, 63, 64, 65, 127, 500, 999, 1000] {
            let mut passed = RunningChecksum::default();
            passed.update(&shard, 0..cut as u64, &whole[..cut]).unwrap();
            let (state, crc) = passed.write();
            let mut passed = RunningChecksum::read(&state, crc).unwrap();
            passed.update(&shard, cut as u64..1000, &whole[cut..]).unwrap();
            passed.check(&shard, &wanted).unwrap();
        }
        assert!(RunningChecksum::read("12", 0).is_none() && RunningChecksum::read("zz", 0).is_none());
    }
}
