//! A GGUF header, read with every size checked against the real length of the file before anything is allocated.
//! llama.cpp aborts or worse on some lies; what passes here is safe to hand to it.

use super::{ALIGNMENT, Array, MAGIC, Value, align};
use crate::error::{Code, Error, Result};
use crate::positioned::read_exact_at;
use llama_ext::GgmlType;
use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};

/// A vocabulary of 128,000 tokens needs 4 MB; the rest of a header is small.
const MAX_HEADER: u64 = 256 << 20;
/// The 70B model has 723 tensors and 30 pairs.
const MAX_TENSORS: u64 = 1 << 16;
const MAX_PAIRS: u64 = 1 << 16;
/// `GGML_MAX_DIMS`.
const MAX_DIMS: u32 = 4;
/// `GGML_MAX_NAME` less its NUL.
const MAX_NAME: usize = llama_ext::tensor_types::MAX_NAME;
/// Arrays in arrays: none in practice.
const MAX_DEPTH: u32 = 2;

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name.
    pub name: String,
    /// Dimensions in ggml's order: row length first.
    pub dims: Vec<u64>,
    /// How it is stored.
    pub kind: GgmlType,
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
}

impl Gguf {
    /// Opens `path` and reads its header.
    ///
    /// # Errors
    /// [`Code::Gguf`] with the offset of the first thing that cannot be, [`Code::NotFound`] and the like for the file.
    pub fn open(path: &Path) -> Result<Self> {
        let found = std::fs::metadata(path).map_err(|err| Error::io(path, "open the file", &err))?;
        if !found.is_file() {
            return Err(Error::new(Code::NotAFile, path, "is not a regular file", "give a .gguf file"));
        }
        let file = File::open(path).map_err(|err| Error::io(path, "open the file", &err))?;
        let len = found.len();
        let mut head = Cursor { path, file: &file, len, at: 0, buffer: Vec::new(), start: 0 };
        let (pairs, listed) = head.header()?;
        let alignment = match pairs.iter().find(|(key, _)| key == "general.alignment") {
            None => ALIGNMENT,
            Some((_, Value::U32(n))) if n.is_power_of_two() => u64::from(*n),
            Some((_, other)) => return Err(head.bad(format!("general.alignment is {other}"))),
        };
        let data = align(head.at, alignment).ok_or_else(|| head.bad("is too long".to_owned()))?;
        let mut tensors = Vec::with_capacity(listed.len());
        let mut expected = data;
        for (name, dims, kind, offset) in listed {
            let bytes = tensor_bytes(&dims, kind);
            let begin = data.checked_add(offset);
            let (Some(bytes), Some(begin)) = (bytes, begin) else {
                return Err(head.bad(format!("tensor '{name}' of {dims:?} {kind} at offset {offset} cannot be")));
            };
            let end = begin.checked_add(bytes).filter(|end| *end <= len);
            if end.is_none() || begin != expected {
                let what = format!(
                    "tensor '{name}' has {bytes} bytes at {begin} (expected at {expected}), the file ends at {len}"
                );
                return Err(head.bad(what));
            }
            expected = begin.checked_add(bytes).and_then(|end| align(end, alignment)).unwrap_or(u64::MAX);
            tensors.push(TensorInfo { name, dims, kind, offset: begin, bytes });
        }
        Ok(Self { path: path.to_owned(), len, pairs, tensors, file })
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
        self.tensors.iter().map(|t| t.dims.iter().product::<u64>()).sum()
    }
}

fn tensor_bytes(dims: &[u64], kind: GgmlType) -> Option<u64> {
    let row = kind.row_bytes(usize::try_from(*dims.first()?).ok()?).ok()?;
    dims.iter().skip(1).try_fold(row as u64, |n, d| n.checked_mul(*d))
}

type Pairs = Vec<(String, Value)>;
/// A tensor as the header lists it: name, dimensions, type, offset from the start of the tensor data.
type Listed = (String, Vec<u64>, GgmlType, u64);

/// Reads forward through the header in blocks; `at` is the offset in the file.
struct Cursor<'a> {
    path: &'a Path,
    file: &'a File,
    len: u64,
    at: u64,
    buffer: Vec<u8>,
    start: u64,
}

impl Cursor<'_> {
    fn bad(&self, what: String) -> Error {
        Error::new(
            Code::Gguf,
            self.path,
            format!("{what} (byte {})", self.at),
            "not a GGUF file, or damaged: make it again",
        )
    }

    /// The next `n` bytes.
    fn take(&mut self, n: u64) -> Result<&[u8]> {
        const BLOCK: u64 = 1 << 20;
        let end = self.at.checked_add(n).filter(|end| *end <= self.len.min(MAX_HEADER));
        let Some(end) = end else {
            return Err(self.bad(format!("needs {n} more bytes of header, the file has {} in all", self.len)));
        };
        let have = self.start + self.buffer.len() as u64;
        if self.at < self.start || end > have {
            let fill = (end - self.at).max(BLOCK.min(self.len - self.at));
            self.buffer = vec![0; usize::try_from(fill).unwrap_or(0)];
            read_exact_at(self.file, &mut self.buffer, self.at)
                .map_err(|err| Error::io(self.path, "read the header", &err))?;
            self.start = self.at;
        }
        let from = usize::try_from(self.at - self.start).unwrap_or(0);
        self.at = end;
        self.buffer
            .get(from..from + usize::try_from(n).unwrap_or(0))
            .ok_or_else(|| Error::new(Code::Gguf, self.path, "header read out of bounds", "report this"))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N as u64)?);
        Ok(out)
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn string(&mut self) -> Result<String> {
        let n = self.u64()?;
        let bytes = self.take(n)?.to_vec();
        String::from_utf8(bytes).map_err(|_| self.bad("has a string that is not UTF-8".to_owned()))
    }

    fn header(&mut self) -> Result<(Pairs, Vec<Listed>)> {
        if self.array::<4>()? != MAGIC {
            self.at = 0;
            return Err(self.bad("does not begin with 'GGUF'".to_owned()));
        }
        let version = self.u32()?;
        if !(2..=3).contains(&version) {
            return Err(self.bad(format!("is GGUF version {version}; 2 and 3 are read")));
        }
        let (n_tensors, n_pairs) = (self.u64()?, self.u64()?);
        if n_tensors > MAX_TENSORS || n_pairs > MAX_PAIRS {
            return Err(self.bad(format!("claims {n_tensors} tensors and {n_pairs} keys")));
        }
        let (mut pairs, mut keys) = (Vec::new(), HashSet::new());
        for _ in 0..n_pairs {
            let key = self.string()?;
            if key.is_empty() || !keys.insert(key.clone()) {
                return Err(self.bad(format!("has an empty or repeated key '{key}'")));
            }
            let kind = self.u32()?;
            pairs.push((key, self.value(kind, 0)?));
        }
        let (mut tensors, mut names) = (Vec::new(), HashSet::new());
        for _ in 0..n_tensors {
            let name = self.string()?;
            if name.is_empty() || name.len() > MAX_NAME || !names.insert(name.clone()) {
                return Err(self.bad(format!("has an empty, overlong or repeated tensor name '{name}'")));
            }
            let n_dims = self.u32()?;
            if n_dims == 0 || n_dims > MAX_DIMS {
                return Err(self.bad(format!("tensor '{name}' has {n_dims} dimensions")));
            }
            let dims = (0..n_dims).map(|_| self.u64()).collect::<Result<Vec<_>>>()?;
            let id = self.u32()?;
            let kind =
                GgmlType::from_id(id).ok_or_else(|| self.bad(format!("tensor '{name}' has unknown type {id}")))?;
            tensors.push((name, dims, kind, self.u64()?));
        }
        Ok((pairs, tensors))
    }

    fn value(&mut self, kind: u32, depth: u32) -> Result<Value> {
        Ok(match kind {
            0 => Value::U8(self.array::<1>()?[0]),
            1 => Value::I8(i8::from_le_bytes(self.array()?)),
            2 => Value::U16(u16::from_le_bytes(self.array()?)),
            3 => Value::I16(i16::from_le_bytes(self.array()?)),
            4 => Value::U32(self.u32()?),
            5 => Value::I32(i32::from_le_bytes(self.array()?)),
            6 => Value::F32(f32::from_le_bytes(self.array()?)),
            7 => match self.array::<1>()?[0] {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                other => return Err(self.bad(format!("has a truth value of {other}"))),
            },
            8 => Value::Str(self.string()?),
            9 => {
                let (element, n) = (self.u32()?, self.u64()?);
                // the smallest element has one byte, so a longer array cannot fit in what is left of the file
                if n > self.len - self.at || depth == MAX_DEPTH {
                    return Err(self.bad(format!("has an array of {n} elements")));
                }
                Value::Array(match element {
                    5 => Array::I32((0..n).map(|_| Ok(i32::from_le_bytes(self.array()?))).collect::<Result<_>>()?),
                    6 => Array::F32((0..n).map(|_| Ok(f32::from_le_bytes(self.array()?))).collect::<Result<_>>()?),
                    8 => Array::Str((0..n).map(|_| self.string()).collect::<Result<_>>()?),
                    _ => Array::Other(element, (0..n).map(|_| self.value(element, depth + 1)).collect::<Result<_>>()?),
                })
            }
            10 => Value::U64(self.u64()?),
            11 => Value::I64(i64::from_le_bytes(self.array()?)),
            12 => Value::F64(f64::from_le_bytes(self.array()?)),
            other => return Err(self.bad(format!("has a value of unknown type {other}"))),
        })
    }
}
