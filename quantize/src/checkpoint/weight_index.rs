//! Finds the weight files of a checkpoint and checks that the index and the shards agree about every tensor. The errors
//! for missing files are in `missing_weights.rs`.

use super::shard::{Shard, SourceTensor};
use super::weight_files::WeightFiles;
use super::weight_formats::{Container, WEIGHT_FORMATS, WeightFormat};
use super::{json, missing_weights, safetensors, torch};
use crate::byte_source::FileOnDisk;
use crate::error::{Code, Error, Result};
use crate::files::exists;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// How to fix an index that contradicts its shards.
const DIFFERENT_UPLOADS: &str = "index and shards are of different uploads: download them again";

/// A weight file with its tensors.
pub type Opened = (Shard, Vec<SourceTensor>);

/// Opens one weight file; its name decides the format. `None` when it is neither.
///
/// # Errors
/// [`Error`] naming the broken invariant.
pub fn open_shard(path: &Path, notes: &mut Vec<String>) -> Result<Option<Opened>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match WEIGHT_FORMATS.iter().find(|f| name.ends_with(f.suffix)) {
        Some(format) => open_file(format, Shard::new(path, Arc::new(FileOnDisk::open(path)?)), 0, notes).map(Some),
        None => Ok(None),
    }
}

/// Reads the header of `file`, shard number `number`, and lists its tensors.
fn open_file(format: &WeightFormat, file: Shard, number: usize, notes: &mut Vec<String>) -> Result<Opened> {
    match format.container {
        Container::Safetensors => safetensors::open(file, number),
        Container::Torch => torch::open(file, number, notes),
    }
}

/// Opens all weight files of the checkpoint whose index is in `dir`; tensors are in file order.
pub(crate) fn open_weights(
    dir: &Path,
    weights: &dyn WeightFiles,
    notes: &mut Vec<String>,
) -> Result<(Vec<Shard>, Vec<SourceTensor>)> {
    let files: HashSet<String> = weights.names()?.into_iter().collect();
    let mut named = Vec::new();
    for format in &WEIGHT_FORMATS {
        let indexed = exists(&dir.join(format.index))?;
        if indexed || files.contains(format.single) || format.complete_set(files.iter().map(String::as_str)).is_some() {
            named.push((format, indexed));
        }
    }
    let [(first, _), ..] = named.as_slice() else { return Err(missing_weights::weights(dir, &files)) };
    // a folder may have the index of a format whose shards were not downloaded
    let (format, indexed) =
        *named.iter().find(|(format, _)| format.is_among(files.iter().map(String::as_str))).unwrap_or(&named[0]);
    if format.index != first.index {
        notes.push(format!("{} is present without its shards, so the {} files are read", first.index, format.suffix));
    }
    let open = |name: &str, number: usize, notes: &mut Vec<String>| {
        let path = dir.join(name);
        let source = weights.open(name, &path)?;
        open_file(format, Shard::new(&path, source), number, notes)
    };
    if indexed {
        let index = dir.join(format.index);
        let wanted = read_index(&index, format.suffix)?;
        let absent: BTreeSet<&str> =
            wanted.values().map(String::as_str).filter(|name| !files.contains(*name)).collect();
        if absent.is_empty() {
            if files.contains(format.single) && !wanted.values().any(|name| name == format.single) {
                notes
                    .push(format!("{} is present too; the shards that {} names are read", format.single, format.index));
            }
            return open_sharded(&index, &wanted, open, notes);
        }
        if !files.contains(format.single) {
            return Err(missing_weights::shards(dir, &index, &absent, wanted.values().collect::<BTreeSet<_>>().len()));
        }
        notes.push(format!("{} is of another save: its shards are missing; {} is read", format.index, format.single));
    }
    if files.contains(format.single) {
        let (shard, tensors) = open(format.single, 0, notes)?;
        return Ok((vec![shard], tensors));
    }
    let names = format.complete_set(files.iter().map(String::as_str)).unwrap_or_default();
    notes.push(format!("{} is missing; the {} shards are read by their names", format.index, names.len()));
    open_unlisted(dir, &names, open, notes)
}

/// Opens shards without an index; each tensor must be in exactly one shard.
fn open_unlisted(
    dir: &Path,
    names: &[&str],
    open: impl Fn(&str, usize, &mut Vec<String>) -> Result<Opened>,
    notes: &mut Vec<String>,
) -> Result<(Vec<Shard>, Vec<SourceTensor>)> {
    let (mut shards, mut tensors, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for (number, name) in names.iter().enumerate() {
        let (shard, listed) = open(name, number, notes)?;
        if let Some(twice) = listed.iter().find(|tensor| !seen.insert(tensor.name.clone())) {
            let what = format!("tensor '{}' is in {name} and in a shard before it", twice.name);
            let fix = "the shards are of different uploads: download them again, with their index";
            return Err(Error::new(Code::IndexTensors, &dir.join(name), what, fix));
        }
        shards.push(shard);
        tensors.extend(listed);
    }
    Ok((shards, tensors))
}

/// Opens the shards of an index; `wanted` maps each tensor to its shard.
fn open_sharded(
    index: &Path,
    wanted: &BTreeMap<String, String>,
    open: impl Fn(&str, usize, &mut Vec<String>) -> Result<Opened>,
    notes: &mut Vec<String>,
) -> Result<(Vec<Shard>, Vec<SourceTensor>)> {
    let names: BTreeSet<&str> = wanted.values().map(String::as_str).collect();
    let (mut shards, mut tensors) = (Vec::new(), Vec::new());
    let mut found: HashMap<String, usize> = HashMap::new();
    for (number, name) in names.iter().enumerate() {
        let (shard, listed) = open(name, number, notes)?;
        for tensor in listed.iter().map(|t| &t.name).chain(&shard.unused_tensors) {
            let listed_in = wanted.get(tensor).map(String::as_str);
            if listed_in != Some(*name) || found.insert(tensor.clone(), number).is_some() {
                let what = format!(
                    "tensor '{tensor}' is in {name}, but the index has it in {}",
                    listed_in.unwrap_or("no shard")
                );
                return Err(Error::new(Code::IndexTensors, index, what, DIFFERENT_UPLOADS));
            }
        }
        shards.push(shard);
        tensors.extend(listed);
    }
    if let Some((name, shard)) = wanted.iter().find(|(name, _)| !found.contains_key(*name)) {
        let what = format!("tensor '{name}' is not in {shard}, where the index has it");
        return Err(Error::new(Code::IndexTensors, index, what, DIFFERENT_UPLOADS));
    }
    Ok((shards, tensors))
}

/// Reads `weight_map`: tensor → shard. A shard must be a plain file name: an index that points out of the folder could
/// put any file into the output.
fn read_index(index: &Path, ending: &str) -> Result<BTreeMap<String, String>> {
    let json = json::read_object(index)?;
    let bad = |code, what: String| Error::new(code, index, what, "download the file again");
    let Some(Value::Object(map)) = json.get("weight_map") else {
        return Err(bad(Code::Json, "has no weight_map".to_owned()));
    };
    let mut wanted = BTreeMap::new();
    for (tensor, shard) in map {
        let Some(name) = shard.as_str().filter(|name| is_plain(name, ending)) else {
            return Err(bad(
                Code::IndexPath,
                format!("tensor '{tensor}' is listed in {shard}, which is not a valid shard file name"),
            ));
        };
        wanted.insert(tensor.clone(), name.to_owned());
    }
    if wanted.is_empty() {
        return Err(bad(Code::Json, "weight_map is empty".to_owned()));
    }
    Ok(wanted)
}

/// Whether `name` is a plain file name with the format's suffix.
fn is_plain(name: &str, ending: &str) -> bool {
    let chars = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    chars && name.ends_with(ending) && !name.starts_with('.')
}
