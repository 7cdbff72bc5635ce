//! The GGUF container, version 3: values, the header written and read. What the keys mean is not known here.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. All numbers are little-endian; strings are a u64
//! length and UTF-8 bytes; tensor data starts at the next multiple of the alignment and each tensor at one of its own.

// Every number below comes from a file: a sum that overflows, or an index that is not there, would be its to choose.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::as_conversions))]

mod cursor;
mod foreign;
mod read;
mod value;
mod write;

pub use read::{Gguf, TensorInfo};
pub use value::{Array, Raw, Value};
pub use write::{TensorEntry, encode_header};

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
fn wide(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
