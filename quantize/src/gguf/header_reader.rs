//! Reads a GGUF header sequentially. Allocations are limited by the remaining length of the file.

use super::layout::MAGIC;
use super::value::{Array, Raw, Value, number, width};
use crate::error::{Code, Error, Result};
use crate::integers::to_u64;
use crate::platform::read_exact_at;
use crate::wrong_file::not_gguf;
use llama_ext::GgmlType;
use std::collections::HashSet;
use std::fs::File;
use std::path::Path;

/// Limit on the header. A vocabulary of 128,000 tokens needs 4 MB; the rest is small.
const MAX_HEADER: u64 = 256 << 20;
/// Limits on tensors and pairs. The 70B model has 723 tensors and 30 pairs.
const MAX_TENSORS: u64 = 1 << 16;
const MAX_PAIRS: u64 = 1 << 16;
/// Longest key in bytes, according to the format's documentation.
const MAX_KEY: u64 = (1 << 16) - 1;
/// `GGML_MAX_DIMS`.
const MAX_DIMS: u32 = 4;
/// `GGML_MAX_NAME` without its NUL.
const MAX_NAME: usize = llama_ext::tensor_types::MAX_NAME;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

pub(super) type Pairs = Vec<(String, Value)>;

/// A tensor in the header.
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) dims: Vec<u64>,
    pub(super) ggml_type: GgmlType,
    /// Offset from the start of the tensor data.
    pub(super) offset: u64,
}

/// Reads in blocks; `at` is the current offset in the file.
pub(super) struct HeaderReader<'a> {
    path: &'a Path,
    file: &'a File,
    len: u64,
    pub(super) at: u64,
    buffer: Vec<u8>,
    start: u64,
}

impl<'a> HeaderReader<'a> {
    /// Starts at the first byte of a file of `len` bytes.
    pub(super) fn new(path: &'a Path, file: &'a File, len: u64) -> Self {
        Self { path, file, len, at: 0, buffer: Vec::new(), start: 0 }
    }

    /// The error for an invalid header, with the current offset.
    pub(super) fn bad(&self, what: impl Into<String>) -> Error {
        let what = format!("{} (byte {})", what.into(), self.at);
        Error::new(Code::Gguf, self.path, what, "not a GGUF file, or damaged: download or convert it again")
    }

    /// Returns the bytes that remain for the header.
    fn remaining(&self) -> u64 {
        self.len.min(MAX_HEADER).saturating_sub(self.at)
    }

    /// Reads the next `n` bytes.
    fn take(&mut self, n: u64) -> Result<&[u8]> {
        const BLOCK: u64 = 1 << 20;
        let end = self.at.checked_add(n).filter(|_| n <= self.remaining());
        let Some(end) = end else {
            return Err(self.bad(format!("needs {n} more bytes of header, the file has {} in all", self.len)));
        };
        let have = self.start.saturating_add(to_u64(self.buffer.len()));
        if self.at < self.start || end > have {
            let fill = n.max(BLOCK.min(self.len.saturating_sub(self.at)));
            // free the old block before allocating the new one
            self.buffer = Vec::new();
            self.buffer.resize(usize::try_from(fill).unwrap_or(0), 0);
            read_exact_at(self.file, &mut self.buffer, self.at)
                .map_err(|err| Error::io(self.path, "read the header", &err))?;
            self.start = self.at;
        }
        let from = usize::try_from(self.at.saturating_sub(self.start)).unwrap_or(usize::MAX);
        self.at = end;
        let n = usize::try_from(n).unwrap_or(usize::MAX);
        self.buffer
            .get(from..)
            .and_then(|rest| rest.get(..n))
            .ok_or_else(|| Error::new(Code::Gguf, self.path, "header read out of bounds", "report this"))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(to_u64(N))?);
        Ok(out)
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn text(&mut self, n: u64) -> Result<String> {
        let bytes = self.take(n)?.to_vec();
        String::from_utf8(bytes).map_err(|_| self.bad("has a string that is not UTF-8"))
    }

    fn string(&mut self) -> Result<String> {
        let n = self.u64()?;
        self.text(n)
    }

    /// Reads the whole header: the pairs, then the list of tensors.
    pub(super) fn header(&mut self) -> Result<(Pairs, Vec<Listed>)> {
        if self.len < 4 || self.array::<4>()? != MAGIC {
            return Err(not_gguf(self.path, self.file, self.len));
        }
        let version = self.u32()?;
        if (2..=3).contains(&version.swap_bytes()) {
            let fix = "take the little-endian file of the model, or convert the checkpoint";
            return Err(Error::new(Code::Gguf, self.path, "is a big-endian GGUF file", fix));
        }
        if !(2..=3).contains(&version) {
            return Err(self.bad(format!("is GGUF version {version}; 2 and 3 are supported")));
        }
        let (n_tensors, n_pairs) = (self.u64()?, self.u64()?);
        if n_tensors > MAX_TENSORS || n_pairs > MAX_PAIRS {
            return Err(self.bad(format!("claims {n_tensors} tensors and {n_pairs} keys")));
        }
        let (mut pairs, mut keys) = (Vec::new(), HashSet::new());
        for _ in 0..n_pairs {
            let n = self.u64()?;
            if n > MAX_KEY {
                return Err(self.bad(format!("has a key of {n} bytes")));
            }
            let key = self.text(n)?;
            if key.is_empty() || !keys.insert(key.clone()) {
                return Err(self.bad(format!("has an empty or repeated key '{key}'")));
            }
            let value_type = self.u32()?;
            pairs.push((key, self.value(value_type)?));
        }
        let (mut tensors, mut names) = (Vec::new(), HashSet::new());
        for _ in 0..n_tensors {
            let tensor = self.tensor()?;
            if !names.insert(tensor.name.clone()) {
                return Err(self.bad(format!("has tensor '{}' twice", tensor.name)));
            }
            tensors.push(tensor);
        }
        Ok((pairs, tensors))
    }

    fn tensor(&mut self) -> Result<Listed> {
        let n = self.u64()?;
        if n == 0 || n > to_u64(MAX_NAME) {
            return Err(self.bad(format!("has a tensor name of {n} bytes")));
        }
        let name = self.text(n)?;
        let n_dims = self.u32()?;
        if n_dims == 0 || n_dims > MAX_DIMS {
            return Err(self.bad(format!("tensor '{name}' has {n_dims} dimensions")));
        }
        let dims = (0..n_dims).map(|_| self.u64()).collect::<Result<Vec<_>>>()?;
        let id = self.u32()?;
        let ggml_type = GgmlType::from_id(id).ok_or_else(|| {
            let what = format!("tensor '{name}' has type {id}, which ggml {} does not know", llama_ext::ggml_version());
            let fix = "the file is of a newer or a very old llama.cpp, or damaged: convert the checkpoint again";
            Error::new(Code::GgufType, self.path, what, fix)
        })?;
        Ok(Listed { name, dims, ggml_type, offset: self.u64()? })
    }

    fn value(&mut self, value_type: u32) -> Result<Value> {
        match value_type {
            STRING => Ok(Value::Str(self.string()?)),
            ARRAY => Ok(Value::Array(self.elements()?)),
            other => match width(other) {
                Some(n) => {
                    let bytes = self.take(to_u64(n))?.to_vec();
                    number(other, &bytes).ok_or_else(|| self.bad(format!("has an invalid boolean {bytes:?}")))
                }
                None => Err(self.bad(format!("has a value of unknown type {other}"))),
            },
        }
    }

    fn elements(&mut self) -> Result<Array> {
        let (element, n) = (self.u32()?, self.u64()?);
        if element == ARRAY {
            return Err(self.bad("has an array of arrays, which llama.cpp does not support"));
        }
        // the smallest size of an element in the file; a string has at least its length
        let least = if element == STRING { Some(8) } else { width(element) };
        let Some(least) = least else { return Err(self.bad(format!("has an array of unknown type {element}"))) };
        let bytes = n.checked_mul(to_u64(least)).filter(|bytes| *bytes <= self.remaining());
        let (Some(bytes), Ok(count)) = (bytes, usize::try_from(n)) else {
            return Err(self.bad(format!("has an array of {n} elements")));
        };
        if element == STRING {
            let mut all = Vec::with_capacity(count);
            for _ in 0..count {
                all.push(self.string()?);
            }
            return Ok(Array::Str(all));
        }
        let bytes = self.take(bytes)?;
        Ok(match element {
            5 => Array::I32(bytes.as_chunks().0.iter().map(|bytes| i32::from_le_bytes(*bytes)).collect()),
            6 => Array::F32(bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()),
            _ => {
                let raw = Raw::new(element, bytes.to_vec());
                Array::Other(raw.ok_or_else(|| self.bad("has a boolean that is neither 0 nor 1"))?)
            }
        })
    }
}
