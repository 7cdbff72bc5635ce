//! The numbers of the GGUF format that reader and writer share: magic, version, alignment.

/// The first four bytes.
pub const MAGIC: [u8; 4] = *b"GGUF";
/// The version written; 2 and 3 are read (they differ only in byte order support).
pub const VERSION: u32 = 3;
/// Tensor data starts at multiples of this unless `general.alignment` says otherwise.
pub const ALIGNMENT: u64 = 32;

/// The next multiple of `alignment`, or `None` past the end of 64 bits.
#[must_use]
pub fn align(offset: u64, alignment: u64) -> Option<u64> {
    offset.checked_next_multiple_of(alignment)
}

/// A length in memory as a length in a file.
pub(super) fn wide(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
