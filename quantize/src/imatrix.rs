//! Reads importance matrices of llama-imatrix: for each tensor, the mean squared activation of every column. Both
//! formats are supported: GGUF (tensors `NAME.in_sum2` and `NAME.counts`) and the older `.dat`.

#![warn(clippy::arithmetic_side_effects)]

use crate::error::{Code, Error, Result};
use crate::files::open_regular;
use crate::gguf::{Array, Gguf, MAGIC, Value};
use crate::platform::read_exact_at;
use llama_ext::GgmlType;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// Limit on the file. The 70B model's, for all tensors, has 25 MB.
const MAX_BYTES: u64 = 1 << 30;
/// Largest accepted importance: up to this value, the quantizers' sums of squares stay finite. Real values are some
/// thousands.
const MAX_WEIGHT: f32 = 1e15;
/// Longest name of a tensor or dataset in a `.dat` file, in bytes.
const MAX_NAME: usize = 4096;

/// The importance of the columns of each tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Imatrix {
    /// Path of the file, as given.
    pub file: String,
    /// Dataset that it was computed with, if the file names it.
    pub dataset: Option<String>,
    /// Number of chunks of that dataset that were used; 0 if the file does not record it.
    pub chunks: u32,
    /// GGUF tensor name → importance of each column.
    pub entries: BTreeMap<String, Vec<f32>>,
}

impl Imatrix {
    /// Reads `path` in either format.
    ///
    /// # Errors
    /// [`Code::Imatrix`] when the file has another format, is damaged, or has a negative, huge, NaN or infinite value.
    pub fn read(path: &Path) -> Result<Self> {
        let (file, len) = open_regular(path)?;
        let mut magic = [0; 4];
        if !(8..=MAX_BYTES).contains(&len) {
            return Err(bad(path, format!("has {len} bytes")));
        }
        read_exact_at(&file, &mut magic, 0).map_err(|err| Error::io(path, "read the importance matrix", &err))?;
        let read = if magic == MAGIC { from_gguf(path)? } else { from_dat(path, file)? };
        if read.entries.is_empty() {
            return Err(bad(path, "has no entries".to_owned()));
        }
        for (name, weights) in &read.entries {
            if weights.iter().any(|x| !x.is_finite()) {
                return Err(bad(path, format!("entry '{name}' contains NaN or infinity")));
            }
            if let Some(weight) = weights.iter().find(|x| !(0.0..=MAX_WEIGHT).contains(*x)) {
                return Err(bad(path, format!("entry '{name}' has a weight of {weight}, outside 0 to {MAX_WEIGHT:e}")));
            }
        }
        Ok(read)
    }
}

fn bad(path: &Path, what: String) -> Error {
    Error::new(Code::Imatrix, path, what, "give a file made by llama-imatrix for this model")
}

/// Reads the GGUF format: sums of squares and a count for each expert (LLaMA has one). For an expert that never ran,
/// all columns have the same importance.
fn from_gguf(path: &Path) -> Result<Imatrix> {
    let gguf = Gguf::open(path)?;
    let mut entries = BTreeMap::new();
    for sums in gguf.tensors.iter().filter(|t| t.name.ends_with(".in_sum2")) {
        let name = sums.name.trim_end_matches(".in_sum2");
        let counts = gguf.tensors.iter().find(|t| t.name.strip_suffix(".counts") == Some(name));
        let Some(counts) = counts else { return Err(bad(path, format!("entry '{name}' has sums and no counts"))) };
        let (sums, counts) = (floats(&gguf, sums)?, floats(&gguf, counts)?);
        if counts.is_empty() || sums.is_empty() || !sums.len().is_multiple_of(counts.len()) {
            return Err(bad(path, format!("entry '{name}' has {} sums for {} counts", sums.len(), counts.len())));
        }
        let weights = sums.chunks(sums.len().checked_div(counts.len()).unwrap_or(1).max(1)).zip(counts).flat_map(
            |(sums, count)| {
                let count = count.round();
                sums.iter().map(move |sum| if count > 0.0 { sum / count } else { 1.0 }).collect::<Vec<_>>()
            },
        );
        entries.insert(name.to_owned(), weights.collect());
    }
    let dataset = match gguf.get("imatrix.datasets") {
        Some(Value::Array(Array::Str(names))) => names.first().cloned(),
        _ => return Err(bad(path, "is a GGUF file without imatrix.datasets".to_owned())),
    };
    Ok(Imatrix {
        file: path.to_string_lossy().into_owned(),
        dataset,
        chunks: gguf.u32("imatrix.chunk_count").unwrap_or(0),
        entries,
    })
}

fn floats(gguf: &Gguf, tensor: &crate::gguf::TensorInfo) -> Result<Vec<f32>> {
    if tensor.ggml_type != GgmlType::F32 {
        return Err(bad(&gguf.path, format!("tensor '{}' is {}, expected f32", tensor.name, tensor.ggml_type)));
    }
    let mut bytes = vec![0; usize::try_from(tensor.bytes).unwrap_or(0)];
    read_exact_at(&gguf.file, &mut bytes, tensor.offset).map_err(|err| Error::io(&gguf.path, "read a tensor", &err))?;
    let mut values = vec![0.0; bytes.len() / 4];
    let read = llama_ext::to_f32(GgmlType::F32, &bytes, &mut values);
    read.map_err(|err| bad(&gguf.path, err.to_string())).map(|()| values)
}

/// Reads the `.dat` format: i32 number of entries; for each, i32 length and name, i32 calls, i32 count and that many
/// f32; then, optionally, i32 chunks, i32 length and name of the dataset.
fn from_dat(path: &Path, file: File) -> Result<Imatrix> {
    let mut bytes = Vec::new();
    let read = file.take(MAX_BYTES).read_to_end(&mut bytes);
    read.map_err(|err| Error::io(path, "read the importance matrix", &err))?;
    let mut rest = bytes.as_slice();
    let truncated = || bad(path, "is neither a GGUF file nor a .dat of llama-imatrix, or is truncated".to_owned());
    let mut entries = BTreeMap::new();
    for _ in 0..take_count(&mut rest).filter(|n| *n > 0).ok_or_else(truncated)? {
        let name = take_text(&mut rest).ok_or_else(truncated)?;
        let calls = take_i32(&mut rest).ok_or_else(truncated)?;
        let n = take_count(&mut rest).filter(|n| *n > 0).ok_or_else(truncated)?;
        let values = take(&mut rest, n.checked_mul(4).ok_or_else(truncated)?).ok_or_else(truncated)?;
        #[allow(clippy::cast_precision_loss, reason = "llama-quantize divides the same way")]
        let divisor = if calls > 0 { calls as f32 } else { 1.0 };
        let weights = values.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]) / divisor);
        entries.insert(name, weights.collect());
    }
    let chunks = take_i32(&mut rest).and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    let dataset = take_text(&mut rest).filter(|name| !name.is_empty());
    Ok(Imatrix { file: path.to_string_lossy().into_owned(), dataset, chunks, entries })
}

fn take<'a>(rest: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(n)?;
    *rest = tail;
    Some(head)
}

fn take_i32(rest: &mut &[u8]) -> Option<i32> {
    take(rest, 4)?.try_into().ok().map(i32::from_le_bytes)
}

fn take_count(rest: &mut &[u8]) -> Option<usize> {
    take_i32(rest).and_then(|n| usize::try_from(n).ok())
}

fn take_text(rest: &mut &[u8]) -> Option<String> {
    let n = take_count(rest).filter(|n| *n <= MAX_NAME)?;
    take(rest, n).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}
