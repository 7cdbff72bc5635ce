//! The bytes of one record while it is read, with their hash. `line_reader` and `json_array` fill it; `input` empties
//! it.

use sha2::{Digest, Sha256};

/// Maximum bytes of a record. A prompt that fills the context of a Tulu model has about a hundredth of this length.
pub(super) const MAX_RECORD: usize = 16 << 20;

/// The bytes of one record, at most [`MAX_RECORD`], and the hash of all of them.
#[derive(Debug)]
pub(super) struct RecordBuffer {
    pub(super) bytes: Vec<u8>,
    /// False if the record has more than [`MAX_RECORD`] bytes; `bytes` is then incomplete.
    pub(super) fits: bool,
    pub(super) hash: Sha256,
}

impl Default for RecordBuffer {
    fn default() -> Self {
        Self { bytes: Vec::new(), fits: true, hash: Sha256::new() }
    }
}

impl RecordBuffer {
    /// Appends bytes of the record. Bytes beyond [`MAX_RECORD`] are only hashed.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.fits = self.fits && self.bytes.len() + bytes.len() <= MAX_RECORD;
        if self.fits {
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// Prepares for the next record.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(1 << 16);
        self.fits = true;
        self.hash = Sha256::new();
    }
}
