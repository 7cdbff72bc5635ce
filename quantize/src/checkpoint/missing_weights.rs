//! The errors for a folder without readable weights: they name the missing files and the existing ones.

use super::config::adapter;
use super::weight_formats::WEIGHT_FORMATS;
use crate::error::{Code, Error};
use std::collections::{BTreeSet, HashSet};
use std::path::Path;

/// Maximum number of names in a message; the others are counted.
const LISTED: usize = 4;

/// The error for the folder `dir` with the files `files`, which has no complete weights of either format.
pub(super) fn weights(dir: &Path, files: &HashSet<String>) -> Error {
    let error = |what: String, fix: String| Error::new(Code::NoWeights, dir, what, fix);
    for format in &WEIGHT_FORMATS {
        if let Some(err) = dangling(dir, format.single) {
            return err;
        }
        let mut shards: Vec<(u32, u32)> = files.iter().filter_map(|name| format.shard_number(name)).collect();
        shards.sort_unstable();
        if let [(_, count), ..] = shards.as_slice() {
            let missing: Vec<String> = (1..=(*count).min(10_000))
                .filter(|n| !shards.contains(&(*n, *count)))
                .map(|n| format!("{}{n:05}-of-{count:05}{}", format.prefix, format.suffix))
                .collect();
            let what = format!(
                "has {} shards, but neither {} nor {}",
                shards.len(),
                format.index,
                if missing.is_empty() { "a complete set".to_owned() } else { listed(&missing) }
            );
            return error(what, format!("fetch the missing files and {} into the same folder", format.index));
        }
    }
    if files.iter().any(|name| name.starts_with("adapter_model.") || name == "adapter_config.json") {
        return adapter(dir);
    }
    let [a, b] = [&WEIGHT_FORMATS[0], &WEIGHT_FORMATS[1]].map(|f| f.single);
    let endings = [".safetensors", ".bin", ".pth", ".pt", ".gguf"];
    let mut others: Vec<String> =
        files.iter().filter(|name| endings.iter().any(|end| name.ends_with(end))).cloned().collect();
    others.sort();
    let instead = if others.is_empty() { String::new() } else { format!("; it has {}", listed(&others)) };
    let what = format!("has no {a} and no {b}, nor the index of either{instead}");
    error(what, "give the folder that holds the weights".to_owned())
}

/// The error for shards that the index names and that are missing.
pub(super) fn shards(dir: &Path, index: &Path, absent: &BTreeSet<&str>, count: usize) -> Error {
    if let Some(err) = absent.iter().find_map(|name| dangling(dir, name)) {
        return err;
    }
    let names: Vec<&str> = absent.iter().copied().collect();
    let what = format!("{} of {count} shards are missing: {}", absent.len(), names.join(", "));
    Error::new(Code::IndexShards, index, what, "download them into the same folder")
}

/// The error for a dangling link of the shared cache; `None` when `name` is not a link.
fn dangling(dir: &Path, name: &str) -> Option<Error> {
    let path = dir.join(name);
    let is_link = std::fs::symlink_metadata(&path).is_ok_and(|found| found.is_symlink());
    let fix = "fetch the model again (tulu-quant pull), or put the file in the link's place";
    is_link.then(|| Error::new(Code::NotFound, &path, "is a link whose target is missing", fix))
}

/// Joins the first names and counts the others.
fn listed(names: &[String]) -> String {
    match names.len().checked_sub(LISTED) {
        Some(more) if more > 0 => format!("{} and {more} more", names[..LISTED].join(", ")),
        _ => names.join(", "),
    }
}
