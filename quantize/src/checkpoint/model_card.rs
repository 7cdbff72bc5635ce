//! Converts the front matter of the model card (README.md) to metadata: licence, author, base models, data sets, tags,
//! languages. Keys and values are those of llama.cpp's converter (gguf-py's `metadata.py`). An unreadable card is
//! ignored with a note. `repo_name` splits repository names.

mod repo_name;

use crate::error::{Error, Result};
use crate::files::{read_if_exists, read_small};
use crate::gguf::{Array, Value};
use serde_json::{Map, Value as Json};
use std::path::Path;

/// Limit on the length of README.md. The longest published cards have some hundred kB.
const MAX_BYTES: u64 = 16 << 20;
/// Limit on the length of the front matter.
const MAX_FRONT: usize = 256 << 10;
/// Limit on base models and on data sets.
const MAX_LISTED: usize = 256;

/// Key in a GGUF below `general.`, and the keys of a card for it; the first that exists is used.
const TEXTS: [(&str, &[&str]); 10] = [
    ("author", &["author", "model_author", "model_creator"]),
    ("version", &["version", "model_version"]),
    ("organization", &["organization", "model_organization"]),
    ("finetune", &["finetune", "model_finetune"]),
    ("basename", &["basename", "model_basename", "model_type"]),
    ("description", &["description", "model_description"]),
    ("size_label", &["size_label", "model_size_label"]),
    ("license", &["license"]),
    ("license.name", &["license_name"]),
    ("license.link", &["license_link"]),
];
/// Like [`TEXTS`], below `general.source.`.
const SOURCES: [(&str, &[&str]); 4] = [
    ("url", &["url", "model_url"]),
    ("doi", &["doi", "model_doi"]),
    ("uuid", &["uuid", "model_uuid"]),
    ("repo_url", &["repo_url", "model_repo_url"]),
];
/// Keys of an entry in a list of base models or data sets, in the converter's order.
const ENTRY: [&str; 9] = ["name", "author", "version", "organization", "description", "url", "doi", "uuid", "repo_url"];

/// Returns the pairs for README.md in `dir`.
pub(super) fn read(dir: &Path, notes: &mut Vec<String>) -> Result<Vec<(String, Value)>> {
    let too_long =
        |path: &Path, len| Error::new(crate::error::Code::Json, path, format!("has {len} bytes"), "shorten it");
    let read = |path: &Path| read_small(path, MAX_BYTES, |len| too_long(path, len));
    let bytes = match read_if_exists(&dir.join("README.md"), read) {
        Ok(bytes) => bytes.unwrap_or_default(),
        Err(err) if err.code == crate::error::Code::Json => return Ok(ignored(&err.what, notes)),
        Err(err) => return Err(err),
    };
    let Ok(text) = String::from_utf8(bytes) else { return Ok(ignored("is not UTF-8", notes)) };
    let Some(front) = front_matter(&text) else { return Ok(Vec::new()) };
    if front.len() > MAX_FRONT {
        return Ok(ignored("has a front matter that is too long", notes));
    }
    match parse(&front) {
        Ok(card) => Ok(pairs(&card)),
        Err(why) => Ok(ignored(&format!("has a front matter that is not YAML ({why})"), notes)),
    }
}

/// Adds a note that the card is ignored.
fn ignored(why: &str, notes: &mut Vec<String>) -> Vec<(String, Value)> {
    notes.push(format!("README.md {why}; licence, base model and tags are not written"));
    Vec::new()
}

/// Returns the lines between the first line, which must be `---`, and the next such line.
fn front_matter(text: &str) -> Option<String> {
    let mut lines = text.lines();
    if lines.next() != Some("---") {
        return None;
    }
    let front: Vec<&str> = lines.take_while(|line| *line != "---").collect();
    // like the converter: quote the language code "no", which YAML reads as false, and replace tabs, which YAML forbids
    Some((front.join("\n") + "\n").replace("- no\n", "- \"no\"\n").replace('\t', "  "))
}

/// Parses the front matter; another value than an object counts as empty.
fn parse(front: &str) -> std::result::Result<Map<String, Json>, String> {
    let options = serde_saphyr::options! { duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins };
    let parsed: Json = serde_saphyr::from_str_with_options(front, options)
        .map_err(|err| err.to_string().lines().next().unwrap_or_default().chars().take(120).collect::<String>())?;
    Ok(if let Json::Object(card) = parsed { card } else { Map::new() })
}

fn pairs(card: &Map<String, Json>) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for (prefix, table) in [("general", &TEXTS[..]), ("general.source", &SOURCES[..])] {
        for (key, from) in table {
            let value = from.iter().find_map(|name| card.get(*name).filter(|value| !value.is_null()));
            all.extend(value.and_then(text).map(|value| (format!("{prefix}.{key}"), Value::Str(value))));
        }
    }
    all.extend(listed("base_model", first(card, &["base_model", "base_models", "base_model_sources"])));
    all.extend(listed("dataset", first(card, &["datasets", "dataset", "dataset_sources"])));
    all.extend(words("tags", card, ["tags", "pipeline_tag"]));
    all.extend(words("languages", card, ["languages", "language"]));
    all
}

/// Returns a scalar as text; the elements of a list are joined with commas.
fn text(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => Some(text.clone()),
        Json::Number(n) => Some(n.to_string()),
        Json::Bool(b) => Some(b.to_string()),
        Json::Array(list) => Some(list.iter().filter_map(text).collect::<Vec<_>>().join(",")),
        _ => None,
    }
}

/// Returns the value of the first key that exists.
fn first<'a>(card: &'a Map<String, Json>, keys: &[&str]) -> Option<&'a Json> {
    keys.iter().find_map(|key| card.get(*key))
}

/// Returns the pairs for base models or data sets: their number and the known facts about each.
fn listed(kind: &str, list: Option<&Json>) -> Vec<(String, Value)> {
    let Some(list) = list else { return Vec::new() };
    let entries: Vec<&Json> = match list {
        Json::String(_) => vec![list],
        Json::Array(all) => all.iter().take(MAX_LISTED).collect(),
        _ => Vec::new(),
    };
    let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    let mut all = vec![(format!("general.{kind}.count"), Value::U32(count))];
    for (i, entry) in entries.into_iter().enumerate() {
        let known: Map<String, Json> = match entry {
            Json::String(id) => repo_name::describe(id).into_iter().map(|(k, v)| (k.to_owned(), v.into())).collect(),
            Json::Object(known) => known.clone(),
            _ => continue,
        };
        all.extend(
            ENTRY
                .iter()
                .filter_map(|key| Some((format!("general.{kind}.{i}.{key}"), Value::Str(text(known.get(*key)?)?)))),
        );
    }
    all
}

/// Returns the words of both keys, concatenated.
fn words(key: &str, card: &Map<String, Json>, from: [&str; 2]) -> Option<(String, Value)> {
    let mut all = Vec::new();
    for value in from.iter().filter_map(|key| card.get(*key)) {
        match value {
            Json::String(word) => all.push(word.clone()),
            Json::Array(list) => all.extend(list.iter().filter_map(text)),
            _ => {}
        }
    }
    (!all.is_empty()).then(|| (format!("general.{key}"), Value::Array(Array::Str(all))))
}
