//! The header of a safetensors file, checked to the last byte.
//!
//! Layout (huggingface/safetensors README): u64 little-endian n, n bytes of JSON, data. The JSON maps each name to dtype,
//! shape and `data_offsets` into the data; the ranges must fill it without hole or overlap. Beyond the reference crate
//! this refuses names that stand twice and keeps every error's offset.

use super::{Shard, SourceTensor};
use crate::error::{Code, Error, Result};
use crate::positioned::read_exact_at;
use llama_ext::GgmlType;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use std::collections::HashSet;
use std::fmt;
use std::path::Path;

/// The 70B model's headers have 100 kB; the reference crate stops at 100 MB, which is 150 times what any file needs.
const MAX_HEADER: u64 = 16 << 20;
/// Every tensor of a LLaMA model is a vector or a matrix.
const MAX_DIMS: usize = 4;

/// Opens `path` and lists its tensors as those of shard number `shard`.
pub(crate) fn open(path: &Path, shard: usize, _notes: &mut Vec<String>) -> Result<(Shard, Vec<SourceTensor>)> {
    let (file, len) = super::open_regular(path)?;
    let bad = |code, what: String| Error::new(code, path, what, "the file is damaged or cut: download it again");
    let mut first = [0; 8];
    if len < 8 {
        return Err(bad(Code::StLength, format!("has {len} bytes, too few for a safetensors file")));
    }
    read_exact_at(&file, &mut first, 0).map_err(|err| Error::io(path, "read the header's length", &err))?;
    let n = u64::from_le_bytes(first);
    if n > MAX_HEADER || n > len - 8 {
        let what =
            format!("the header claims {n} bytes at offset 0, the file has {len} (at most {MAX_HEADER} are read)");
        return Err(bad(Code::StLength, what));
    }
    let mut text = vec![0; usize::try_from(n).unwrap_or(0)];
    read_exact_at(&file, &mut text, 8).map_err(|err| Error::io(path, "read the header", &err))?;
    if text.first() != Some(&b'{') {
        return Err(bad(Code::StHeader, "the header at offset 8 does not begin with '{'".to_owned()));
    }
    let header: Header = serde_json::from_slice(&text)
        .map_err(|err| bad(Code::StHeader, format!("the header at offset 8 is not the expected JSON: {err}")))?;

    let mut seen = HashSet::new();
    let mut tensors = Vec::with_capacity(header.0.len());
    for (name, entry) in header.0 {
        if !seen.insert(name.clone()) {
            return Err(bad(Code::StDuplicate, format!("tensor '{name}' stands twice in the header")));
        }
        tensors.push(tensor(name, &entry, shard, 8 + n).map_err(|(code, what)| bad(code, what))?);
    }
    tensors.sort_by_key(|t| t.offset);
    let mut at = 8 + n;
    for t in &tensors {
        if t.offset != at {
            let kind = if t.offset > at { "leaves a hole" } else { "overlaps" };
            let what = format!("tensor '{}' {kind}: its data starts at byte {}, expected {at}", t.name, t.offset);
            return Err(bad(Code::StHole, what));
        }
        at += t.bytes;
    }
    if at != len {
        return Err(bad(Code::StEnd, format!("the header describes {at} bytes, the file has {len}")));
    }
    Ok((Shard::new(path, file, len), tensors))
}

/// Checks one entry; offsets become absolute.
fn tensor(name: String, entry: &Entry, shard: usize, data: u64) -> std::result::Result<SourceTensor, (Code, String)> {
    let dtype = match entry.dtype.as_str() {
        "F32" => GgmlType::F32,
        "F16" => GgmlType::F16,
        "BF16" => GgmlType::BF16,
        other => return Err((Code::StDtype, format!("tensor '{name}' has type {other}; F32, F16 and BF16 are read"))),
    };
    let [begin, end] = entry.data_offsets;
    if entry.shape.len() > MAX_DIMS {
        return Err((Code::StSize, format!("tensor '{name}' has {} dimensions", entry.shape.len())));
    }
    let needed = entry.shape.iter().try_fold(dtype.block_bytes() as u64, |n, d| n.checked_mul(*d));
    if needed.is_none() || end.checked_sub(begin) != needed || data.checked_add(end).is_none() {
        let (shape, dtype) = (&entry.shape, &entry.dtype);
        let what = format!("tensor '{name}' of shape {shape:?} {dtype} cannot lie at data_offsets {begin} to {end}");
        return Err((Code::StSize, what));
    }
    let (shape, offset, bytes) = (entry.shape.clone(), data + begin, end - begin);
    Ok(SourceTensor { name, dtype, shape, shard, offset, bytes, strides: None })
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// Names with their entries in file order, duplicates kept so that they can be refused; `__metadata__` is left out.
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
