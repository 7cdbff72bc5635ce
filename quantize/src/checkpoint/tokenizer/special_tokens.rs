//! Which tokens have a meaning (begin, end, unknown, padding), and what else a GGUF's metadata says of the vocabulary.

use super::token::{PrefixSpace, Token, TokenKind, TokenizerMetadata, shown};
use super::tokenizer_json::TokenizerJson;
use crate::checkpoint::config::EndToken;
use crate::checkpoint::json;
use crate::error::{Code, Error, Result};
use crate::gguf;
use serde_json::{Map, Value};
use std::path::Path;

/// CodeLlama's vocabulary, and CodeTulu's: llama.cpp's converter knows it by its size.
const CODE_LLAMA_ROWS: usize = 32_016;
/// `<EOT>` there.
const CODE_LLAMA_EOT: u32 = 32_010;

/// The settings with the special tokens by name. In a folder from before `added_tokens_decoder`, special_tokens_map.json
/// has the last word, as in Transformers (`_from_pretrained`); in later ones nobody reads that file.
pub(super) fn named(dir: &Path, settings: &Map<String, Value>) -> Result<Map<String, Value>> {
    let mut named = settings.clone();
    if !settings.contains_key("added_tokens_decoder") {
        named.extend(json::read_optional(&dir.join("special_tokens_map.json"))?.unwrap_or_default());
    }
    Ok(named)
}

/// Text and id of the special token `key`, which is `usual` where the files do not say.
pub(super) fn find(
    path: &Path,
    named: &Map<String, Value>,
    tokens: &[Token],
    key: &str,
    usual: &str,
) -> Result<(String, u32)> {
    let text = named.get(key).and_then(content).unwrap_or_else(|| usual.to_owned());
    let id = tokens.iter().position(|t| t.text == text).and_then(|id| u32::try_from(id).ok());
    match id {
        Some(id) => Ok((text, id)),
        None => {
            let what = format!("has no {}, the {key}", shown(&text));
            Err(Error::new(Code::Tokenizer, path, what, "take the tokenizer files of one repository"))
        }
    }
}

/// A special token is written as a string or as an object with `content`.
fn content(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value.get("content").and_then(Value::as_str)).map(str::to_owned)
}

/// Ids besides bos and eos, under the names of GGUF's keys. As in gguf-py's `SpecialVocab`: from the added tokens of
/// tokenizer.json by the names in tokenizer_config.json, else from config.json.
pub(super) fn ids(
    settings: &Map<String, Value>,
    fast: Option<&TokenizerJson>,
    config: &Map<String, Value>,
    rows: usize,
) -> Vec<(&'static str, u32)> {
    // the third is spelled so in GGUF
    const KINDS: [(&str, &str); 4] = [("unk", "unknown"), ("sep", "seperator"), ("pad", "padding"), ("mask", "mask")];
    let by_name = KINDS.iter().filter_map(|(kind, key)| {
        let text = settings.get(&format!("{kind}_token")).and_then(content)?;
        Some((*key, fast?.id(&text)?))
    });
    let by_number = KINDS.iter().filter_map(|(kind, key)| {
        Some((*key, u32::try_from(config.get(&format!("{kind}_token_id"))?.as_u64()?).ok()?))
    });
    let mut ids: Vec<(&'static str, u32)> = Vec::new();
    for (key, id) in by_name.chain(by_number).filter(|(_, id)| (*id as usize) < rows) {
        if !ids.iter().any(|(known, _)| *known == key) {
            ids.push((key, id));
        }
    }
    ids
}

/// Which special tokens are put around a text: tokenizer.json says it, and tokenizer_config.json has the last word.
pub(super) fn adds(
    settings: &Map<String, Value>,
    fast: Option<&TokenizerJson>,
    bos: &str,
    eos: &str,
) -> Vec<(&'static str, bool)> {
    let by_settings = ["bos", "eos", "sep"]
        .into_iter()
        .filter_map(|kind| Some((kind, settings.get(&format!("add_{kind}_token"))?.as_bool()?)));
    let mut adds: Vec<(&'static str, bool)> = Vec::new();
    for (kind, add) in fast.map(|fast| fast.adds(bos, eos)).unwrap_or_default().into_iter().chain(by_settings) {
        match adds.iter_mut().find(|(known, _)| *known == kind) {
            Some(known) => known.1 = add,
            None => adds.push((kind, add)),
        }
    }
    adds
}

/// Ids besides eos that end an answer. What begins or ends a text becomes a control token, so that no message can write
/// it (added_tokens.json does not tell one from the other).
pub(super) fn ends(
    said: &[EndToken],
    tokens: &mut [Token],
    [bos, eos]: [u32; 2],
    pad: Option<u32>,
    notes: &mut Vec<String>,
) -> Vec<u32> {
    let mut ends = Vec::new();
    for end in said {
        let known = u32::try_from(end.id).ok().filter(|id| (*id as usize) < tokens.len());
        let Some(id) = known else {
            notes.push(format!("eos_token_id {} is past the embedding; left out", end.id));
            continue;
        };
        // a single number that is no token of its own is a leftover: models with it would never stop
        let kind = tokens[id as usize].kind;
        let own = matches!(kind, TokenKind::Control | TokenKind::UserDefined) && id != bos && Some(id) != pad;
        if id != eos && (end.listed || own) {
            ends.push(id);
        }
    }
    for id in ends.iter().chain([&bos, &eos]) {
        let token = &mut tokens[*id as usize];
        if token.kind == TokenKind::UserDefined {
            token.kind = TokenKind::Control;
        }
    }
    if !ends.is_empty() {
        let name = |id: &u32| format!("{} ({id})", shown(&tokens[*id as usize].text));
        let all: Vec<String> = [eos].iter().chain(&ends).map(name).collect();
        notes.push(format!("answers end at each of {}, as eos_token_id says", all.join(", ")));
    }
    ends
}

/// Where a space is put before a text. tokenizer.json is what Transformers' fast tokenizer is made of, so it is asked
/// first.
pub(super) fn spaces(
    settings: &Map<String, Value>,
    fast: Option<&TokenizerJson>,
    add_space_prefix: Option<bool>,
    notes: &mut Vec<String>,
) -> PrefixSpace {
    let modern = settings.get("legacy") == Some(&Value::Bool(false));
    let said =
        fast.and_then(TokenizerJson::spaces).unwrap_or(if modern { PrefixSpace::First } else { PrefixSpace::Always });
    // the GGUF has a key for no space at all, and the converter writes it
    if add_space_prefix == Some(false) || said == PrefixSpace::Always {
        return PrefixSpace::Always;
    }
    let place = if said == PrefixSpace::First { "only at the start of a prompt" } else { "nowhere" };
    notes.push(format!(
        "the tokenizer puts a space before a text {place} (legacy: false), which is obeyed here; other programs put one \
         after every special token, because a GGUF cannot say this, so their ids differ from Transformers'"
    ));
    said
}

/// All of it as metadata.
pub(super) fn extra(
    ids: Vec<(&'static str, u32)>,
    adds: Vec<(&'static str, bool)>,
    mut ends: Vec<u32>,
    spaces: PrefixSpace,
    rows: usize,
) -> TokenizerMetadata {
    let mut keys = vec!["eot", "eom"].into_iter();
    let mut extra = TokenizerMetadata {
        ids: ids.into_iter().map(|(key, id)| number(key, id)).collect(),
        adds: adds
            .into_iter()
            .map(|(kind, add)| (format!("tokenizer.ggml.add_{kind}_token"), gguf::Value::Bool(add)))
            .collect(),
        ..TokenizerMetadata::default()
    };
    if rows == CODE_LLAMA_ROWS {
        ends.retain(|id| *id != CODE_LLAMA_EOT);
        ends.insert(0, CODE_LLAMA_EOT);
    }
    let mut ends = ends.into_iter();
    extra.ends = keys.by_ref().zip(ends.by_ref()).map(|(key, id)| number(key, id)).collect();
    let rest: Vec<String> = ends.map(|id| id.to_string()).collect();
    let mut own = |key: &str, value: String| {
        extra.own.push((format!("tulu_quant.tokenizer.{key}"), gguf::Value::Str(value)));
    };
    if !rest.is_empty() {
        own("end_token_ids", rest.join(","));
    }
    match spaces {
        PrefixSpace::Always => {}
        PrefixSpace::First => own("prefix_space", "first".to_owned()),
        PrefixSpace::Never => own("prefix_space", "never".to_owned()),
    }
    extra
}

fn number(key: &str, id: u32) -> (String, gguf::Value) {
    (format!("tokenizer.ggml.{key}_token_id"), gguf::Value::U32(id))
}
