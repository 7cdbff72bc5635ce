//! Opens GGUF files. All sizes are checked against the length of the file before anything is allocated. llama.cpp
//! aborts or crashes on some invalid headers; a file that opens here is safe for it.

use super::header_reader::{HeaderReader, Listed};
use super::layout::{ALIGNMENT, align};
use super::value::Value;
use crate::error::Result;
use crate::files::open_regular;
use crate::integers::to_u64;
use llama_ext::GgmlType;
use std::fs::File;
use std::path::{Path, PathBuf};

/// A tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name in the file.
    pub name: String,
    /// Dimensions in ggml's order: row length first.
    pub dims: Vec<u64>,
    /// Stored type.
    pub ggml_type: GgmlType,
    /// First byte, from the start of the file.
    pub offset: u64,
    /// Length in bytes.
    pub bytes: u64,
}

/// An open GGUF file with a checked header.
#[derive(Debug)]
pub struct Gguf {
    /// Path of the file.
    pub path: PathBuf,
    /// The open file.
    pub file: File,
    /// Length in bytes.
    pub len: u64,
    /// The key-value pairs in file order.
    pub pairs: Vec<(String, Value)>,
    /// The tensors in file order.
    pub tensors: Vec<TensorInfo>,
    /// Start of the tensor data, from the start of the file.
    pub data: u64,
    /// Alignment of the tensors, relative to [`Self::data`].
    pub alignment: u64,
}

impl Gguf {
    /// Opens `path` and reads its header.
    ///
    /// # Errors
    /// [`crate::Code::Gguf`] with the offset of the first invalid value, [`crate::Code::GgufType`] for a tensor type
    /// that the linked ggml does not know, [`crate::Code::NotFound`] and other codes when the file cannot be opened or
    /// read.
    pub fn open(path: &Path) -> Result<Self> {
        let (file, len) = open_regular(path)?;
        let mut head = HeaderReader::new(path, &file, len);
        let (pairs, listed) = head.header()?;
        let alignment = match pairs.iter().find(|(key, _)| key == "general.alignment") {
            None => ALIGNMENT,
            Some((_, Value::U32(n))) if n.is_power_of_two() => u64::from(*n),
            Some((_, other)) => return Err(head.bad(format!("general.alignment is {other}"))),
        };
        let data = align(head.at, alignment).ok_or_else(|| head.bad("is too long"))?;
        let mut tensors = Vec::with_capacity(listed.len());
        let mut expected = data;
        for Listed { name, dims, ggml_type, offset } in listed {
            let place = size(&dims, ggml_type).zip(data.checked_add(offset));
            let Some(((bytes, begin), end)) = place.and_then(|(n, begin)| Some(((n, begin), begin.checked_add(n)?)))
            else {
                return Err(
                    head.bad(format!("tensor '{name}' of {dims:?} {ggml_type} has an invalid size or offset {offset}"))
                );
            };
            if end > len || begin != expected {
                let what = format!(
                    "tensor '{name}' has {bytes} bytes at {begin} (expected at {expected}), the file ends at {len}"
                );
                return Err(head.bad(what));
            }
            expected = align(end, alignment).unwrap_or(u64::MAX);
            tensors.push(TensorInfo { name, dims, ggml_type, offset: begin, bytes });
        }
        Ok(Self { path: path.to_owned(), file, len, pairs, tensors, data, alignment })
    }

    /// Returns the offset behind the last tensor, in bytes from the start of the file.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.tensors.last().map_or(self.data, |t| t.offset.saturating_add(t.bytes))
    }

    /// Returns (number from 1, count) of a part of a split file; `None` for a file that is not split. Keys: `split.no`,
    /// `split.count`.
    ///
    /// # Errors
    /// A message about the invalid key.
    pub fn part(&self) -> std::result::Result<Option<(u64, u64)>, String> {
        let number = |key: &str| match self.get(key).map(|value| (value, value.as_u64())) {
            None => Ok(None),
            Some((_, Some(n))) => Ok(Some(n)),
            Some((value, None)) => Err(format!("{key} is {value}, expected a whole number")),
        };
        let (no, count) = (number("split.no")?, number("split.count")?);
        match (no.unwrap_or(0), count.unwrap_or(0)) {
            (_, 0 | 1) => Ok(None),
            (no, count) if no < count => Ok(Some((no.saturating_add(1), count))),
            (no, count) => Err(format!("split.no is {no}, and there are {count} parts (split.count)")),
        }
    }

    /// Returns the value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.pairs.iter().find(|(k, _)| k == key).map(|(_, value)| value)
    }

    /// Returns the value of `key` if it is a string.
    #[must_use]
    pub fn str(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    /// Returns the value of `key` if it is an integer of 32 bits.
    #[must_use]
    pub fn u32(&self, key: &str) -> Option<u32> {
        self.get(key)?.as_u64().and_then(|n| u32::try_from(n).ok())
    }

    /// Returns the number of parameters.
    #[must_use]
    pub fn n_params(&self) -> u64 {
        self.tensors.iter().fold(0, |n: u64, t| n.saturating_add(t.n_weights()))
    }

    /// Returns the length of all tensors in bytes, without padding.
    #[must_use]
    pub fn tensor_bytes(&self) -> u64 {
        self.tensors.iter().fold(0, |n: u64, t| n.saturating_add(t.bytes))
    }
}

impl TensorInfo {
    /// Returns the weights in a row.
    #[must_use]
    pub fn n_per_row(&self) -> u64 {
        self.dims.first().copied().unwrap_or(0)
    }

    /// Returns the number of rows; 1 for a vector. ([`Gguf::open`] has checked that it does not overflow.)
    #[must_use]
    pub fn n_rows(&self) -> u64 {
        self.dims.iter().skip(1).fold(1, |n: u64, d| n.saturating_mul(*d))
    }

    /// Returns the number of weights.
    #[must_use]
    pub fn n_weights(&self) -> u64 {
        self.n_per_row().saturating_mul(self.n_rows())
    }
}

/// Returns the bytes of a tensor; `None` when a dimension is 0, a row does not have whole blocks, or the number of
/// weights or bytes exceeds ggml's 63 bits.
fn size(dims: &[u64], ggml_type: GgmlType) -> Option<u64> {
    let row = ggml_type.row_bytes(usize::try_from(*dims.first()?).ok()?).ok()?;
    let times = |n: u64, d: &u64| n.checked_mul(*d).filter(|n| *d > 0 && i64::try_from(*n).is_ok());
    dims.iter().try_fold(1, times)?;
    dims.iter().skip(1).try_fold(to_u64(row), times)
}
