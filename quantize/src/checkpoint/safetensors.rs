//! Reads and checks the header of a safetensors file.
//!
//! Layout (huggingface/safetensors README): u64 little-endian n, n bytes of JSON, data. The JSON maps each name to
//! dtype, shape and `data_offsets` into the data; the ranges must fill it without holes or overlaps. Unlike the
//! reference crate, this reader rejects duplicate names and names the offset in every error.

use super::quantized;
use super::shard::{Shard, SourceTensor, is_unused_tensor};
use crate::error::{Code, Error, Result};
use crate::wrong_file;
use llama_ext::GgmlType;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use std::collections::HashSet;
use std::fmt;
use std::path::Path;

/// Longest header in bytes. Those of the 70B model have 100 kB; the reference crate allows 100 MB.
const MAX_HEADER: u64 = 16 << 20;
/// Every tensor of a LLaMA model is a vector or a matrix; old exports have masks of four dimensions.
const MAX_DIMS: usize = 4;

/// Reads the header of `file` and lists its tensors as those of shard number `shard`.
pub(crate) fn open(mut file: Shard, shard: usize) -> Result<(Shard, Vec<SourceTensor>)> {
    let (path, len) = (file.path.clone(), file.len());
    let bad = |code, what: String| Error::new(code, &path, what, "the file is damaged or truncated: download it again");
    let mut first = [0; 8];
    if len < 8 {
        return Err(bad(Code::StLength, format!("has {len} bytes, too few for a safetensors file")));
    }
    file.read(&mut first, 0, "read the header's length")?;
    let n = u64::from_le_bytes(first);
    if n > MAX_HEADER || n > len.saturating_sub(8) {
        let mut head = vec![0; usize::try_from(len).unwrap_or(usize::MAX).min(wrong_file::HEAD)];
        file.read(&mut head, 0, "read the first bytes")?;
        if let Some((what, fix)) = wrong_file::instead(&head) {
            return Err(Error::new(Code::StLength, &path, what, fix));
        }
        let what =
            format!("the header claims {n} bytes at offset 0, the file has {len}, and the limit is {MAX_HEADER}");
        return Err(bad(Code::StLength, what));
    }
    let mut text = vec![0; usize::try_from(n).unwrap_or(0)];
    file.read(&mut text, 8, "read the header")?;
    if text.first() != Some(&b'{') {
        return Err(bad(Code::StHeader, "the header at offset 8 does not begin with '{'".to_owned()));
    }
    let header: Header = serde_json::from_slice(&text)
        .map_err(|err| bad(Code::StHeader, format!("the header at offset 8 is not the expected JSON: {err}")))?;

    let mut seen = HashSet::new();
    let (mut tensors, mut spans) = (Vec::with_capacity(header.0.len()), Vec::with_capacity(header.0.len()));
    for (name, entry) in header.0 {
        if !seen.insert(name.clone()) {
            return Err(bad(Code::StDuplicate, format!("the header lists tensor '{name}' twice")));
        }
        let Some(width) = width(&entry.dtype) else { return Err(unsupported_type(&path, &name, &entry.dtype)) };
        let [begin, end] = span(&name, &entry, width, n.saturating_add(8)).map_err(|(code, what)| bad(code, what))?;
        spans.push((begin, end, name.clone()));
        match dtype(&entry.dtype) {
            Some(dtype) => {
                let (shape, bytes) = (entry.shape, end.saturating_sub(begin));
                tensors.push(SourceTensor { name, dtype, shape, shard, offset: begin, bytes, strides: None });
            }
            // masks and frequencies: no loader uses them, so their type does not matter
            None if is_unused_tensor(&name) => file.unused_tensors.push(name),
            None => return Err(unsupported_type(&path, &name, &entry.dtype)),
        }
    }
    spans.sort();
    let mut at = n.saturating_add(8);
    for (begin, end, name) in spans {
        if begin != at {
            let kind = if begin > at { "leaves a hole" } else { "overlaps" };
            let what = format!("tensor '{name}' {kind}: its data starts at byte {begin}, expected {at}");
            return Err(bad(Code::StHole, what));
        }
        at = end;
    }
    if at != len {
        return Err(bad(Code::StEnd, format!("the header describes {at} bytes, the file has {len}")));
    }
    tensors.sort_by_key(|t| t.offset);
    Ok((file, tensors))
}

/// The error for a type that is not supported.
fn unsupported_type(path: &Path, name: &str, dtype: &str) -> Error {
    let what = format!("tensor '{name}' has type {dtype}; F32, F16 and BF16 are supported");
    let small = ["F8_", "F6_", "F4"].iter().any(|begin| dtype.starts_with(begin));
    let (why, fix) = match dtype {
        "F64" | "C64" => ("", "convert the weights to float32 or bfloat16 and save them again"),
        "U8" | "I8" | "U16" | "I16" | "U32" | "I32" => ("; the checkpoint is quantized", quantized::FIX),
        _ if small => ("; the checkpoint is quantized", quantized::FIX),
        _ => ("", "the file is damaged or of another kind of model: download it again"),
    };
    Error::new(Code::StDtype, path, what + why, fix)
}

/// Checks one entry and returns begin and end of its data, from the start of the file.
fn span(name: &str, entry: &Entry, width: u64, data: u64) -> std::result::Result<[u64; 2], (Code, String)> {
    let [begin, end] = entry.data_offsets;
    if entry.shape.len() > MAX_DIMS {
        return Err((Code::StSize, format!("tensor '{name}' has {} dimensions", entry.shape.len())));
    }
    let needed = entry.shape.iter().try_fold(width, |n, d| n.checked_mul(*d));
    match data.checked_add(end) {
        Some(last) if needed.is_some() && end.checked_sub(begin) == needed => Ok([data.saturating_add(begin), last]),
        _ => {
            let (shape, dtype) = (&entry.shape, &entry.dtype);
            let what =
                format!("tensor '{name}' of shape {shape:?} {dtype} does not fit its data_offsets {begin} to {end}");
            Err((Code::StSize, what))
        }
    }
}

/// The ggml type of a supported dtype.
fn dtype(name: &str) -> Option<GgmlType> {
    match name {
        "F32" => Some(GgmlType::F32),
        "F16" => Some(GgmlType::F16),
        "BF16" => Some(GgmlType::BF16),
        _ => None,
    }
}

/// Bytes per element of the dtypes with whole bytes.
fn width(name: &str) -> Option<u64> {
    match name {
        "BOOL" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0" => Some(1),
        "U16" | "I16" | "F16" | "BF16" => Some(2),
        "U32" | "I32" | "F32" => Some(4),
        "U64" | "I64" | "F64" | "C64" => Some(8),
        _ => None,
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// Names and entries in file order, without `__metadata__`. Duplicates are kept, to be rejected later.
struct Header(Vec<(String, Entry)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Header, A::Error> {
                let mut entries = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        entries.push((name, map.next_value()?));
                    }
                }
                Ok(Header(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}
