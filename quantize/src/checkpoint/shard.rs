//! The plain data of weight files: an open file ([`Shard`]), its tensors and its CRC-32s. The readers are in
//! `safetensors.rs` and `torch/`.

use crate::byte_source::ByteSource;
use crate::error::{Code, Error, Result};
use llama_ext::GgmlType;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How to fix a damaged `.bin` file.
pub(super) const DAMAGED: &str = "the file is damaged or truncated: download it again";

/// Returns whether the tensor `source` is in old exports and no loader uses it: llama.cpp computes the rotary
/// frequencies itself.
pub(crate) fn is_unused_tensor(source: &str) -> bool {
    [".rotary_emb.inv_freq", ".attention.masked_bias", ".attention.bias"].iter().any(|end| source.ends_with(end))
}

/// An open weight file.
#[derive(Debug)]
pub struct Shard {
    /// Path of the file.
    pub path: PathBuf,
    /// Bytes of the file.
    pub bytes: Arc<dyn ByteSource>,
    /// CRC-32s of its storages (`.bin` files only), in file order.
    pub(crate) crcs: Vec<StorageCrc>,
    /// Names of tensors that no loader uses and whose types are not supported.
    pub(crate) unused_tensors: Vec<String>,
}

impl Shard {
    /// Wraps an open file whose header is not read yet.
    pub(crate) fn new(path: &Path, bytes: Arc<dyn ByteSource>) -> Self {
        Self { path: path.to_owned(), bytes, crcs: Vec::new(), unused_tensors: Vec::new() }
    }

    /// Returns the length in bytes when the file was opened.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.bytes.len()
    }

    /// Whether the file is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buf` from `offset`. The error text is "cannot `doing`".
    pub(crate) fn read(&self, buf: &mut [u8], offset: u64, doing: &str) -> Result<()> {
        self.bytes.read_exact_at(buf, offset).map_err(|err| Error::io(&self.path, doing, &err))
    }
}

/// A storage of a `.bin` file and the CRC-32 that the zip directory has for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StorageCrc {
    /// Name of the zip member.
    pub(crate) name: String,
    /// First byte, from the start of the shard's file.
    pub(crate) offset: u64,
    /// Length in bytes.
    pub(crate) len: u64,
    /// Expected CRC-32.
    pub(crate) crc: u32,
}

/// The error for a zip member of the file `path` whose CRC-32 is not `expected`.
pub(crate) fn crc_mismatch(path: &Path, name: &str, offset: u64, expected: u32, found: u32) -> Error {
    let what = format!("member '{name}' at byte {offset} has CRC-32 {found:08x}, expected {expected:08x}");
    Error::new(Code::ZipCrc, path, what, DAMAGED)
}

/// A tensor of a checkpoint: type, shape and position of its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceTensor {
    /// Its name in the checkpoint, such as `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// F32, F16 or BF16; any type in a GGUF file.
    pub dtype: GgmlType,
    /// Shape in PyTorch's order, outermost dimension first (rows × columns for a matrix).
    pub shape: Vec<u64>,
    /// Index into [`super::Checkpoint::shards`].
    pub shard: usize,
    /// First byte, from the start of the shard's file.
    pub offset: u64,
    /// Length in bytes: the product of the shape and the width of the type.
    pub bytes: u64,
    /// Strides in elements for each dimension, when the tensor is not contiguous (a transposed view, a slice of
    /// columns).
    pub strides: Option<Vec<u64>>,
}
