//! The GGUF container, version 3: values, reading and writing of headers. The meaning of keys is in `gguf_metadata.rs`
//! and `gguf_source.rs`.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. All numbers are little-endian; strings are a
//! u64 length and UTF-8 bytes; tensor data starts at the next multiple of the alignment and each tensor at one of its
//! own.

// All numbers come from an untrusted file, so arithmetic and indexing must be checked.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::as_conversions))]

mod copy;
mod header_reader;
mod layout;
mod parts;
mod read;
mod value;
mod write;

pub use copy::{Place, replace_pairs, write_copy};
pub use layout::{ALIGNMENT, MAGIC, VERSION, align};
pub(crate) use parts::{MAX_PARTS, part_path, split_stem};
pub use parts::{first_part, open_parts, paths};
pub use read::{Gguf, TensorInfo};
pub use value::{Array, Raw, Value};
pub use write::{TensorEntry, encode_header};
