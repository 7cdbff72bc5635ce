//! Which weight files a folder has, and that index and shards agree about every tensor.

use super::{Shard, SourceTensor, json, safetensors, torch};
use crate::error::{Code, Error, Result};
use crate::medium::{OnDisk, Weights};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// A weight file with its tensors.
pub type Opened = (Shard, Vec<SourceTensor>);

/// A format of weight files.
struct Format {
    /// The only file of a model in one piece.
    single: &'static str,
    /// The index of a model in several.
    index: &'static str,
    /// How a shard's name ends.
    ending: &'static str,
    /// Reads what is in a file, which gets the number given, and lists its tensors; notes for the user are added to the
    /// list.
    open: fn(Shard, usize, &mut Vec<String>) -> Result<Opened>,
}

/// In order of preference: safetensors cannot hold anything but tensors.
const FORMATS: [Format; 2] = [
    Format {
        single: "model.safetensors",
        index: "model.safetensors.index.json",
        ending: ".safetensors",
        open: safetensors::open,
    },
    Format { single: "pytorch_model.bin", index: "pytorch_model.bin.index.json", ending: ".bin", open: torch::open },
];

/// Opens one weight file by itself, in the format that its name ends with; `None` when that is neither.
///
/// # Errors
/// [`Error`] naming the invariant that does not hold.
pub fn open_shard(path: &Path, notes: &mut Vec<String>) -> Result<Option<Opened>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match FORMATS.iter().find(|f| name.ends_with(f.ending)) {
        Some(format) => (format.open)(Shard::new(path, Arc::new(OnDisk::open(path)?)), 0, notes).map(Some),
        None => Ok(None),
    }
}

/// Opens every weight file of the checkpoint whose index lies in `dir`; tensors come in the order of the files.
pub(crate) fn open_weights(
    dir: &Path,
    weights: &dyn Weights,
    notes: &mut Vec<String>,
) -> Result<(Vec<Shard>, Vec<SourceTensor>)> {
    let here: HashSet<String> = weights.names().into_iter().collect();
    let named = |f: &&Format| dir.join(f.index).exists() || here.contains(f.single);
    let named: Vec<&Format> = FORMATS.iter().filter(named).collect();
    let [first, ..] = named.as_slice() else {
        let [a, b] = [&FORMATS[0], &FORMATS[1]].map(|f| f.single);
        let what = format!("has no {a} and no {b}, nor the index of either");
        return Err(Error::new(Code::NoWeights, dir, what, "give the folder that holds the weights"));
    };
    // who downloads one format of two often gets the index of the other with it
    let has_weights = |f: &&&Format| here.iter().any(|name| name.ends_with(f.ending));
    let format = named.iter().find(has_weights).unwrap_or(first);
    if format.index != first.index {
        notes.push(format!("{} is here without its shards, so the {} files are read", first.index, format.ending));
    }
    let index = dir.join(format.index);
    let open = |name: &str, number: usize, notes: &mut Vec<String>| {
        let path = dir.join(name);
        let medium = weights.open(name, &path)?;
        (format.open)(Shard::new(&path, medium), number, notes)
    };
    if index.exists() {
        return open_sharded(&index, format, &here, open, notes);
    }
    let (shard, tensors) = open(format.single, 0, notes)?;
    Ok((vec![shard], tensors))
}

fn open_sharded(
    index: &Path,
    format: &Format,
    here: &HashSet<String>,
    open: impl Fn(&str, usize, &mut Vec<String>) -> Result<Opened>,
    notes: &mut Vec<String>,
) -> Result<(Vec<Shard>, Vec<SourceTensor>)> {
    let wanted = read_index(index, format.ending)?;
    let names: BTreeSet<&str> = wanted.values().map(String::as_str).collect();
    let missing: Vec<&str> = names.iter().copied().filter(|name| !here.contains(*name)).collect();
    if !missing.is_empty() {
        let what = format!("{} of {} shards are missing: {}", missing.len(), names.len(), missing.join(", "));
        return Err(Error::new(Code::IndexShards, index, what, "download them into the same folder"));
    }
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
