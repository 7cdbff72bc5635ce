//! The plain data of weight files: an open file, the tensors in it, and the checksums that it carries.

use crate::byte_source::ByteSource;
use crate::error::{Code, Error, Result};
use llama_ext::GgmlType;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How to fix a damaged `.bin` file.
pub(super) const DAMAGED: &str = "the file is damaged or cut: download it again";

/// Whether the tensor is one that old exports carry and no loader uses: llama.cpp computes the rotary frequencies itself.
pub(crate) fn is_unused_tensor(source: &str) -> bool {
    [".rotary_emb.inv_freq", ".attention.masked_bias", ".attention.bias"].iter().any(|end| source.ends_with(end))
}

/// One weight file, open.
#[derive(Debug)]
pub struct Shard {
    /// Where it is.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: Arc<dyn ByteSource>,
    /// Sums that the file carries for its tensors' bytes, in the order of the file.
    pub(crate) sums: Vec<StorageCrc>,
    /// Tensors that are of a type no weight has, and that every loader skips.
    pub(crate) left_out: Vec<String>,
}

impl Shard {
    /// A file that was opened, of which nothing is known yet.
    pub(crate) fn new(path: &Path, bytes: Arc<dyn ByteSource>) -> Self {
        Self { path: path.to_owned(), bytes, sums: Vec::new(), left_out: Vec::new() }
    }

    /// Length in bytes when it was opened.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.bytes.len()
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buf` from `offset`; `doing` is what for.
    pub(crate) fn read(&self, buf: &mut [u8], offset: u64, doing: &str) -> Result<()> {
        self.bytes.read_exact_at(buf, offset).map_err(|err| Error::io(&self.path, doing, &err))
    }
}

/// A run of bytes whose CRC32 is stored beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StorageCrc {
    /// Of the member of the zip file.
    pub(crate) name: String,
    /// First byte, from the start of the shard's file.
    pub(crate) offset: u64,
    /// Length in bytes.
    pub(crate) len: u64,
    /// What it must be.
    pub(crate) crc: u32,
}

/// The error for bytes of the shard `path` whose CRC32 is not `wanted`.
pub(crate) fn crc_mismatch(path: &Path, name: &str, offset: u64, wanted: u32, found: u32) -> Error {
    let what = format!("member '{name}' at byte {offset} has CRC32 {found:08x}, stored with it is {wanted:08x}");
    Error::new(Code::ZipCrc, path, what, DAMAGED)
}

/// Where the bytes of one tensor are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceTensor {
    /// Its name in the checkpoint, such as `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// F32, F16 or BF16; anything in a GGUF file.
    pub dtype: GgmlType,
    /// Outermost dimension first, as PyTorch has it (rows × columns for a matrix).
    pub shape: Vec<u64>,
    /// Index into [`Checkpoint::shards`].
    pub shard: usize,
    /// First byte, from the start of the shard's file.
    pub offset: u64,
    /// Length in bytes: the product of the shape and the width of the type.
    pub bytes: u64,
    /// Elements from one index to the next in each dimension, when they do not lie one after another: a transposed
    /// view, a slice of columns.
    pub strides: Option<Vec<u64>>,
}
