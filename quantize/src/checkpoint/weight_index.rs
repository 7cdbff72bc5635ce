//! Which weight files a folder has, and that index and shards agree about every tensor. [`missing`](super::missing_weights) says
//! what is wrong when there are none.

use super::weight_file::{Shard, SourceTensor};
use super::weight_files::WeightFiles;
use super::weight_formats::{Container, WEIGHT_FORMATS, WeightFormat};
use super::{json, missing_weights, safetensors, torch};
use crate::byte_source::FileOnDisk;
use crate::error::{Code, Error, Result};
use crate::files::is_there;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// A weight file with its tensors.
pub type Opened = (Shard, Vec<SourceTensor>);

/// Opens one weight file by itself, in the format that its name ends with; `None` when that is neither.
///
/// # Errors
/// [`Error`] naming the invariant that does not hold.
pub fn open_shard(path: &Path, notes: &mut Vec<String>) -> Result<Option<Opened>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match WEIGHT_FORMATS.iter().find(|f| name.ends_with(f.suffix)) {
        Some(format) => open_file(format, Shard::new(path, Arc::new(FileOnDisk::open(path)?)), 0, notes).map(Some),
        None => Ok(None),
    }
}

/// Reads the header of `file`, which gets the number `number`, and lists its tensors.
fn open_file(format: &WeightFormat, file: Shard, number: usize, notes: &mut Vec<String>) -> Result<Opened> {
    match format.container {
        Container::Safetensors => safetensors::open(file, number),
        Container::Torch => torch::open(file, number, notes),
    }
}

/// Opens every weight file of the checkpoint whose index lies in `dir`; tensors come in the order of the files.
pub(crate) fn open_weights(
    dir: &Path,
    weights: &dyn WeightFiles,
    notes: &mut Vec<String>,
) -> Result<(Vec<Shard>, Vec<SourceTensor>)> {
    let here: HashSet<String> = weights.names()?.into_iter().collect();
    let mut named = Vec::new();
    for format in &WEIGHT_FORMATS {
        let indexed = is_there(&dir.join(format.index))?;
        if indexed || here.contains(format.single) || format.complete_set(here.iter().map(String::as_str)).is_some() {
            named.push((format, indexed));
        }
    }
    let [(first, _), ..] = named.as_slice() else { return Err(missing_weights::weights(dir, &here)) };
    // who downloads one format of two often gets the index of the other with it
    let (format, indexed) =
        *named.iter().find(|(format, _)| format.is_among(here.iter().map(String::as_str))).unwrap_or(&named[0]);
    if format.index != first.index {
        notes.push(format!("{} is here without its shards, so the {} files are read", first.index, format.suffix));
    }
    let open = |name: &str, number: usize, notes: &mut Vec<String>| {
        let path = dir.join(name);
        let source = weights.open(name, &path)?;
        open_file(format, Shard::new(&path, source), number, notes)
    };
    if indexed {
        let index = dir.join(format.index);
        let wanted = read_index(&index, format.suffix)?;
        let absent: BTreeSet<&str> = wanted.values().map(String::as_str).filter(|name| !here.contains(*name)).collect();
        if absent.is_empty() {
            if here.contains(format.single) && !wanted.values().any(|name| name == format.single) {
                notes.push(format!("{} is here too; the shards that {} names are read", format.single, format.index));
            }
            return open_sharded(&index, &wanted, open, notes);
        }
        if !here.contains(format.single) {
            return Err(missing_weights::shards(dir, &index, &absent, wanted.values().collect::<BTreeSet<_>>().len()));
        }
        notes.push(format!("{} is of another save: its shards are not here; {} is read", format.index, format.single));
    }
    if here.contains(format.single) {
        let (shard, tensors) = open(format.single, 0, notes)?;
        return Ok((vec![shard], tensors));
    }
    let names = format.complete_set(here.iter().map(String::as_str)).unwrap_or_default();
    notes.push(format!("{} is missing; the {} shards are read by their names", format.index, names.len()));
    open_unlisted(dir, &names, open, notes)
}

/// Shards without an index: a tensor stands in one of them only.
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
        for tensor in listed.iter().map(|t| &t.name).chain(&shard.left_out) {
            let said = wanted.get(tensor).map(String::as_str);
            if said != Some(*name) || found.insert(tensor.clone(), number).is_some() {
                let what =
                    format!("tensor '{tensor}' is in {name}, but the index has it in {}", said.unwrap_or("no shard"));
                return Err(Error::new(
                    Code::IndexTensors,
                    index,
                    what,
                    "index and shards are of different uploads: download them again",
                ));
            }
        }
        shards.push(shard);
        tensors.extend(listed);
    }
    if let Some((name, shard)) = wanted.iter().find(|(name, _)| !found.contains_key(*name)) {
        let what = format!("tensor '{name}' is not in {shard}, where the index has it");
        return Err(Error::new(
            Code::IndexTensors,
            index,
            what,
            "index and shards are of different uploads: download them again",
        ));
    }
    Ok((shards, tensors))
}

/// `weight_map`: tensor → shard. A shard is a plain file name in the same folder: an index that could point elsewhere
/// would put another model's weights (or any file) into the output.
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
                format!("tensor '{tensor}' is said to be in {shard}, which is no shard's file name"),
            ));
        };
        wanted.insert(tensor.clone(), name.to_owned());
    }
    if wanted.is_empty() {
        return Err(bad(Code::Json, "weight_map is empty".to_owned()));
    }
    Ok(wanted)
}

fn is_plain(name: &str, ending: &str) -> bool {
    let chars = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    chars && name.ends_with(ending) && !name.starts_with('.')
}
