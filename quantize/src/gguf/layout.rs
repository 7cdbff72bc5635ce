//! The numbers of the GGUF format that reader and writer share: magic, version, alignment.

/// The first four bytes of a file.
pub const MAGIC: [u8; 4] = *b"GGUF";
/// The version that is written. Versions 2 and 3 are read; they differ only in byte order support.
pub const VERSION: u32 = 3;
/// Default alignment of tensor data, used without `general.alignment`.
pub const ALIGNMENT: u64 = 32;

/// Returns `offset` rounded up to a multiple of `alignment` (both in bytes); `None` when it overflows.
#[must_use]
pub fn align(offset: u64, alignment: u64) -> Option<u64> {
    offset.checked_next_multiple_of(alignment)
}
