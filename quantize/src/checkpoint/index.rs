//! Which weight files a folder has, and that index and shards agree about every tensor. [`missing`](super::missing) says
//! what is wrong when there are none.

use super::{Shard, SourceTensor, json, missing, safetensors, torch};
use crate::error::{Code, Error, Result};
use crate::medium::{OnDisk, Weights, is_there};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// A weight file with its tensors.
pub type Opened = (Shard, Vec<SourceTensor>);

/// A format of weight files.
pub(super) struct Format {
    /// The only file of a model in one piece.
    pub(super) single: &'static str,
    /// The index of a model in several.
    pub(super) index: &'static str,
    /// How a shard's name begins.
    pub(super) before: &'static str,
    /// How a shard's name ends.
    pub(super) ending: &'static str,
    /// Reads what is in a file, which gets the number given, and lists its tensors; notes for the user are added to the
    /// list.
    open: fn(Shard, usize, &mut Vec<String>) -> Result<Opened>,
}

/// In order of preference: safetensors cannot hold anything but tensors.
pub(super) const FORMATS: [Format; 2] = [
    Format {
        single: "model.safetensors",
        index: "model.safetensors.index.json",
        before: "model-",
        ending: ".safetensors",
        open: safetensors::open,
    },
    Format {
        single: "pytorch_model.bin",
        index: "pytorch_model.bin.index.json",
        before: "pytorch_model-",
        ending: ".bin",
        open: torch::open,
    },
];

impl Format {
    /// Number and count of a shard by its name: `model-00001-of-00002.safetensors` is the first of two.
    pub(super) fn number(&self, name: &str) -> Option<(u32, u32)> {
        let (number, count) = name.strip_prefix(self.before)?.strip_suffix(self.ending)?.split_once("-of-")?;
        Some((number.parse().ok()?, count.parse().ok()?))
    }

    /// The shards that are here, in their order, if they are all of one set.
    fn complete(&self, here: &HashSet<String>) -> Option<Vec<String>> {
        let mut found: Vec<((u32, u32), &String)> =
            here.iter().filter_map(|name| Some((self.number(name)?, name))).collect();
        found.sort();
        let ((_, count), _) = *found.first()?;
        let whole = found.iter().map(|(number, _)| *number).eq((1..=count).map(|n| (n, count)));
        whole.then(|| found.into_iter().map(|(_, name)| name.clone()).collect())
    }

    /// Whether a file of this format is here: one by itself, or a shard. (`training_args.bin` is neither.)
    fn has_weights(&self, here: &HashSet<String>) -> bool {
        here.iter().any(|name| name == self.single || self.number(name).is_some())
    }
}

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
    let here: HashSet<String> = weights.names()?.into_iter().collect();
    let mut named = Vec::new();
    for format in &FORMATS {
        let indexed = is_there(&dir.join(format.index))?;
        if indexed || here.contains(format.single) || format.complete(&here).is_some() {
            named.push((format, indexed));
        }
    }
    let [(first, _), ..] = named.as_slice() else { return Err(missing::weights(dir, &here)) };
    // who downloads one format of two often gets the index of the other with it
    let (format, indexed) = *named.iter().find(|(format, _)| format.has_weights(&here)).unwrap_or(&named[0]);
    if format.index != first.index {
        notes.push(format!("{} is here without its shards, so the {} files are read", first.index, format.ending));
    }
    let open = |name: &str, number: usize, notes: &mut Vec<String>| {
        let path = dir.join(name);
        let medium = weights.open(name, &path)?;
        (format.open)(Shard::new(&path, medium), number, notes)
    };
    if indexed {
        let index = dir.join(format.index);
        let wanted = read_index(&index, format.ending)?;
        let absent: BTreeSet<&str> = wanted.values().map(String::as_str).filter(|name| !here.contains(*name)).collect();
        if absent.is_empty() {
            if here.contains(format.single) && !wanted.values().any(|name| name == format.single) {
                notes.push(format!("{} is here too; the shards that {} names are read", format.single, format.index));
            }
            return open_sharded(&index, &wanted, open, notes);
        }
        if !here.contains(format.single) {
            return Err(missing::shards(dir, &index, &absent, wanted.values().collect::<BTreeSet<_>>().len()));
        }
        notes.push(format!("{} is of another save: its shards are not here; {} is read", format.index, format.single));
    }
    if here.contains(format.single) {
        let (shard, tensors) = open(format.single, 0, notes)?;
        return Ok((vec![shard], tensors));
    }
    let names = format.complete(&here).unwrap_or_default();
    notes.push(format!("{} is missing; the {} shards are read by their names", format.index, names.len()));
    open_unlisted(dir, &names, open, notes)
}

/// Shards without an index: a tensor stands in one of them only.
fn open_unlisted(
    dir: &Path,
    names: &[String],
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
