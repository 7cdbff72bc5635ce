//! Which weight files a folder has, and that index and shards agree about every tensor.

use super::{Shard, SourceTensor, json, safetensors};
use crate::error::{Code, Error, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Opens every weight file of `dir`; tensors come in the order of the files.
pub(crate) fn open_weights(dir: &Path) -> Result<(Vec<Shard>, Vec<SourceTensor>)> {
    let index = dir.join(INDEX);
    if index.exists() {
        return open_sharded(dir, &index);
    }
    let single = dir.join(SINGLE);
    if single.exists() {
        let (shard, tensors) = safetensors::open(&single, 0)?;
        return Ok((vec![shard], tensors));
    }
    let pickled = ["pytorch_model.bin", "pytorch_model.bin.index.json"].iter().any(|name| dir.join(name).exists());
    let (what, fix) = if pickled {
        ("has its weights only as PyTorch .bin files, which this version does not read", "save it as safetensors first")
    } else {
        ("has no model.safetensors and no model.safetensors.index.json", "give the folder that holds the weights")
    };
    Err(Error::new(Code::NoWeights, dir, what, fix))
}

fn open_sharded(dir: &Path, index: &Path) -> Result<(Vec<Shard>, Vec<SourceTensor>)> {
    let wanted = read_index(index)?;
    let names: BTreeSet<&str> = wanted.values().map(String::as_str).collect();
    let missing: Vec<&str> = names.iter().copied().filter(|name| !dir.join(name).exists()).collect();
    if !missing.is_empty() {
        let what = format!("{} of {} shards are missing: {}", missing.len(), names.len(), missing.join(", "));
        return Err(Error::new(Code::IndexShards, index, what, "download them into the same folder"));
    }
    let (mut shards, mut tensors) = (Vec::new(), Vec::new());
    let mut found: HashMap<String, usize> = HashMap::new();
    for (number, name) in names.iter().enumerate() {
        let (shard, listed) = safetensors::open(&dir.join(name), number)?;
        for t in &listed {
            let said = wanted.get(&t.name).map(String::as_str);
            if said != Some(*name) || found.insert(t.name.clone(), number).is_some() {
                let what =
                    format!("tensor '{}' is in {name}, but the index has it in {}", t.name, said.unwrap_or("no shard"));
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
fn read_index(index: &Path) -> Result<BTreeMap<String, String>> {
    let json = json::read_object(index)?;
    let bad = |code, what: String| Error::new(code, index, what, "download the file again");
    let Some(Value::Object(map)) = json.get("weight_map") else {
        return Err(bad(Code::Json, "has no weight_map".to_owned()));
    };
    let mut wanted = BTreeMap::new();
    for (tensor, shard) in map {
        let Some(name) = shard.as_str().filter(|name| is_plain(name)) else {
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

fn is_plain(name: &str) -> bool {
    let chars = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    chars && name.ends_with(".safetensors") && !name.starts_with('.')
}
