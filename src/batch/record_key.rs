//! Keys of records. A key identifies a record in all runs by its content, independent of its position in the input.

use super::digest::first_half;
use sha2::{Digest, Sha256};
use std::collections::HashSet;

/// Stable id of a record: SHA-256 of its bytes, shortened to 16 bytes. For the second and later records of the same
/// bytes, the hash also includes the repetition number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key(pub(crate) [u8; 16]);

impl Key {
    /// `digest`: of the record's bytes; `nth`: how many records before it have the same bytes.
    pub(super) fn new(digest: [u8; 16], nth: u32) -> Self {
        if nth == 0 {
            return Self(digest);
        }
        Self(first_half(Sha256::new().chain_update(digest).chain_update(nth.to_le_bytes())))
    }
}

/// Fingerprint of an input: the hash of the file and the key of each record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InputIndex {
    /// SHA-256 of the whole input, in hexadecimal.
    pub(crate) sha256: String,
    /// One for each record, in order; no two are equal.
    pub(crate) keys: Vec<Key>,
    /// Digests that more than one record has.
    pub(super) repeated: HashSet<[u8; 16]>,
}

impl InputIndex {
    /// An input with the records `keys`.
    #[cfg(test)]
    pub(super) fn of(sha256: String, keys: Vec<Key>) -> Self {
        Self { sha256, keys, repeated: HashSet::new() }
    }

    /// Number of records.
    pub(crate) fn len(&self) -> u64 {
        self.keys.len() as u64
    }
}
