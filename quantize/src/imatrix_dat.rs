//! Reads the older format of importance matrices, `.dat` of llama-imatrix.

#![warn(clippy::arithmetic_side_effects)]

use crate::error::{Code, Error, Result};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// Limit on the file. The 70B model's, for all tensors, has 25 MB.
pub(crate) const MAX_BYTES: u64 = 1 << 30;
/// Longest name of a tensor or dataset, in bytes.
const MAX_NAME: usize = 4096;

/// The contents of a file.
pub(crate) struct Dat {
    pub(crate) entries: Vec<DatEntry>,
    /// Chunks of the dataset that were used; 0 if the file does not record it.
    pub(crate) chunks: u32,
    /// The dataset, if the file names it.
    pub(crate) dataset: Option<String>,
}

/// The entry of one tensor.
pub(crate) struct DatEntry {
    pub(crate) name: String,
    /// Number of chunks.
    pub(crate) calls: i32,
    /// For each column the mean square of the activations, times `calls`.
    pub(crate) values: Vec<f32>,
}

/// Creates the error about a file that is no importance matrix.
pub(crate) fn bad(path: &Path, what: String) -> Error {
    Error::new(Code::Imatrix, path, what, "give a file made by llama-imatrix for this model")
}

/// Reads the format: i32 number of entries; for each, i32 length and name, i32 calls, i32 count and that many
/// f32; then, optionally, i32 chunks, i32 length and name of the dataset.
pub(crate) fn read(path: &Path, file: File) -> Result<Dat> {
    let mut bytes = Vec::new();
    let read = file.take(MAX_BYTES).read_to_end(&mut bytes);
    read.map_err(|err| Error::io(path, "read the importance matrix", &err))?;
    let mut rest = bytes.as_slice();
    let truncated = || bad(path, "is neither a GGUF file nor a .dat of llama-imatrix, or is truncated".to_owned());
    let mut entries = Vec::new();
    for _ in 0..take_count(&mut rest).filter(|n| *n > 0).ok_or_else(truncated)? {
        let name = take_text(&mut rest).ok_or_else(truncated)?;
        let calls = take_i32(&mut rest).ok_or_else(truncated)?;
        let n = take_count(&mut rest).filter(|n| *n > 0).ok_or_else(truncated)?;
        let values = take(&mut rest, n.checked_mul(4).ok_or_else(truncated)?).ok_or_else(truncated)?;
        let values = values.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        entries.push(DatEntry { name, calls, values });
    }
    let chunks = take_i32(&mut rest).and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    let dataset = take_text(&mut rest).filter(|name| !name.is_empty());
    Ok(Dat { entries, chunks, dataset })
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
