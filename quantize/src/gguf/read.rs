//! A GGUF header, read with every size checked against the real length of the file before anything is allocated.
//! llama.cpp aborts or worse on some lies; what passes here is safe to hand to it.

use super::header_reader::{Cursor, Listed};
use super::layout::{ALIGNMENT, align, wide};
use super::value::Value;
use crate::error::Result;
use crate::files::open_regular;
use llama_ext::GgmlType;
use std::fs::File;
use std::path::{Path, PathBuf};

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name.
    pub name: String,
    /// Dimensions in ggml's order: row length first.
    pub dims: Vec<u64>,
    /// How it is stored.
    pub ggml_type: GgmlType,
    /// First byte, from the start of the file.
    pub offset: u64,
    /// Length in bytes.
    pub bytes: u64,
}

/// A GGUF file, open, its header read and checked.
#[derive(Debug)]
pub struct Gguf {
    /// Where it is.
    pub path: PathBuf,
    /// The open file.
    pub file: File,
    /// Its length in bytes.
    pub len: u64,
    /// The key-value pairs in file order.
    pub pairs: Vec<(String, Value)>,
    /// The tensors in file order.
    pub tensors: Vec<TensorInfo>,
    /// Where the tensors' bytes begin, from the start of the file.
    pub data: u64,
    /// The tensors begin at multiples of this, counted from [`Self::data`].
    pub alignment: u64,
}

impl Gguf {
    /// Opens `path` and reads its header.
    ///
    /// # Errors
    /// [`crate::Code::Gguf`] with the offset of the first thing that cannot be, [`crate::Code::GgufType`] for a tensor of a type that
    /// the linked ggml does not know, [`crate::Code::NotFound`] and the like for the file.
    pub fn open(path: &Path) -> Result<Self> {
        let (file, len) = open_regular(path)?;
        let mut head = Cursor::new(path, &file, len);
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
                return Err(head.bad(format!("tensor '{name}' of {dims:?} {ggml_type} at offset {offset} cannot be")));
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

    /// First byte after the last tensor, from the start of the file.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.tensors.last().map_or(self.data, |t| t.offset.saturating_add(t.bytes))
    }

    /// For a part of a file that was split: its number, counted from 1, and how many parts there are. `Err` says what is
    /// wrong with these numbers.
    ///
    /// # Errors
    /// A sentence about the key.
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

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.pairs.iter().find(|(k, _)| k == key).map(|(_, value)| value)
    }

    /// The text of `key`.
    #[must_use]
    pub fn str(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    /// The whole number of `key`.
    #[must_use]
    pub fn u32(&self, key: &str) -> Option<u32> {
        self.get(key)?.as_u64().and_then(|n| u32::try_from(n).ok())
    }

    /// Weights in all tensors.
    #[must_use]
    pub fn n_params(&self) -> u64 {
        self.tensors.iter().fold(0, |n: u64, t| n.saturating_add(t.n_weights()))
    }

    /// Bytes of all tensors.
    #[must_use]
    pub fn tensor_bytes(&self) -> u64 {
        self.tensors.iter().fold(0, |n: u64, t| n.saturating_add(t.bytes))
    }
}

impl TensorInfo {
    /// Weights in a row.
    #[must_use]
    pub fn n_per_row(&self) -> u64 {
        self.dims.first().copied().unwrap_or(0)
    }

    /// Rows; 1 for a vector. [`Gguf::open`] has checked that the product is a number.
    #[must_use]
    pub fn n_rows(&self) -> u64 {
        self.dims.iter().skip(1).fold(1, |n: u64, d| n.saturating_mul(*d))
    }

    /// Weights in all.
    #[must_use]
    pub fn n_weights(&self) -> u64 {
        self.n_per_row().saturating_mul(self.n_rows())
    }
}

/// Bytes of a tensor; `None` when a dimension is 0, a row is not whole blocks, or the number of weights or bytes is one
/// that ggml has no room for (63 bits).
fn size(dims: &[u64], ggml_type: GgmlType) -> Option<u64> {
    let row = ggml_type.row_bytes(usize::try_from(*dims.first()?).ok()?).ok()?;
    let times = |n: u64, d: &u64| n.checked_mul(*d).filter(|n| *d > 0 && i64::try_from(*n).is_ok());
    dims.iter().try_fold(1, times)?;
    dims.iter().skip(1).try_fold(wide(row), times)
}
