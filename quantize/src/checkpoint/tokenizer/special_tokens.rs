//! Finds the special tokens (bos, eos, unknown, padding, …) and builds the tokenizer's metadata.

use super::token::{PrefixSpace, Token, TokenKind, TokenizerMetadata, display_text};
use super::tokenizer_json::TokenizerJson;
use crate::checkpoint::config::EndToken;
use crate::checkpoint::json;
use crate::error::{Code, Error, Result};
use crate::gguf;
use serde_json::{Map, Value};
use std::path::Path;

/// Vocabulary size by which llama.cpp's converter recognizes CodeLlama (and so CodeTulu).
const CODE_LLAMA_ROWS: usize = 32_016;
/// Id of `<EOT>` in that vocabulary.
const CODE_LLAMA_EOT: u32 = 32_010;

/// Returns the settings, with special_tokens_map.json merged in when there is no `added_tokens_decoder`. Transformers
/// (`_from_pretrained`) reads that file only then.
pub(super) fn with_special_tokens_map(dir: &Path, settings: &Map<String, Value>) -> Result<Map<String, Value>> {
    let mut named = settings.clone();
    if !settings.contains_key("added_tokens_decoder") {
        named.extend(json::read_optional(&dir.join("special_tokens_map.json"))?.unwrap_or_default());
    }
    Ok(named)
}

/// Returns the id of the special token `key`; its text is `usual` if the files do not define it.
pub(super) fn find(path: &Path, named: &Map<String, Value>, tokens: &[Token], key: &str, usual: &str) -> Result<u32> {
    let text = named.get(key).and_then(content).unwrap_or_else(|| usual.to_owned());
    position(tokens, &text).ok_or_else(|| {
        let what = format!("has no {}, the {key}", display_text(&text));
        Error::new(Code::Tokenizer, path, what, "take the tokenizer files of one repository")
    })
}

/// Texts that end an answer in the vocabularies of the family, for files that name no eos token.
const USUAL_ENDS: [&str; 5] = ["<|end_of_text|>", "<|eot_id|>", "<|endoftext|>", "<|im_end|>", "</s>"];

/// Returns the id of the bos token of a tokenizer.json: of its name, of the token that the post-processor puts before a
/// text, else of its number in config.json. Such a number counts only for a special token: some folders have the ids of
/// Llama 2 (1, which is `"` in Llama 3).
pub(super) fn bos_of_json(
    named: &Map<String, Value>,
    json_file: Option<&TokenizerJson>,
    tokens: &[Token],
    in_config: Option<u32>,
) -> Option<u32> {
    let by_name = named.get("bos_token").and_then(content).or_else(|| json_file?.first_special());
    let by_name = by_name.and_then(|text| position(tokens, &text));
    by_name.or_else(|| in_config.filter(|id| is_special(tokens, *id)))
}

/// Returns the id of the eos token of a tokenizer.json. In a byte-level GGUF without one, llama.cpp takes token 11 for
/// it, a comma.
///
/// The name in tokenizer_config.json decides, then `eos_token_id` in config.json and generation_config.json (the first
/// special token of a list), then the usual names.
pub(super) fn eos_of_json(
    path: &Path,
    named: &Map<String, Value>,
    tokens: &[Token],
    in_config: &[EndToken],
    notes: &mut Vec<String>,
) -> Result<u32> {
    if let Some(id) = named.get("eos_token").and_then(content).and_then(|text| position(tokens, &text)) {
        return Ok(id);
    }
    let numbers = in_config.iter().filter_map(|end| u32::try_from(end.id).ok());
    let by_number = numbers.clone().find(|id| is_special(tokens, *id)).map(|id| (id, "eos_token_id of config.json"));
    let usual = || USUAL_ENDS.iter().find_map(|text| position(tokens, text).filter(|id| is_special(tokens, *id)));
    match by_number.or_else(|| usual().map(|id| (id, "its usual name"))) {
        Some((id, from)) => {
            let text = tokens.get(id as usize).map(|token| display_text(&token.text)).unwrap_or_default();
            notes.push(format!(
                "tokenizer_config.json names no eos_token of the vocabulary; {text} ({id}) is taken from {from}"
            ));
            Ok(id)
        }
        None => {
            let what = "comes without an eos token, so an answer would never end";
            Err(Error::new(
                Code::Tokenizer,
                path,
                what,
                "set eos_token in tokenizer_config.json to a token of the vocabulary",
            ))
        }
    }
}

fn position(tokens: &[Token], text: &str) -> Option<u32> {
    tokens.iter().position(|token| token.text == text).and_then(|id| u32::try_from(id).ok())
}

fn is_special(tokens: &[Token], id: u32) -> bool {
    let kind = tokens.get(id as usize).map(|token| token.kind);
    matches!(kind, Some(TokenKind::Control | TokenKind::UserDefined))
}

/// Returns the text of a special token, which is a string or an object with `content`.
pub(super) fn content(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value.get("content").and_then(Value::as_str)).map(str::to_owned)
}

/// Returns the ids of special tokens other than bos and eos, by GGUF's names. Like gguf-py's `SpecialVocab`: the text
/// in tokenizer_config.json is looked up in the added tokens of tokenizer.json; otherwise the id in config.json is
/// used.
pub(super) fn ids(
    settings: &Map<String, Value>,
    json_file: Option<&TokenizerJson>,
    config: &Map<String, Value>,
    rows: usize,
) -> Vec<(&'static str, u32)> {
    // "seperator" is the spelling in GGUF
    const KINDS: [(&str, &str); 4] = [("unk", "unknown"), ("sep", "seperator"), ("pad", "padding"), ("mask", "mask")];
    let by_name = KINDS.iter().filter_map(|(kind, key)| {
        let text = settings.get(&format!("{kind}_token")).and_then(content)?;
        Some((*key, json_file?.id(&text)?))
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

/// Returns which special tokens are added around a text; tokenizer_config.json overrides tokenizer.json.
pub(super) fn added_around(
    settings: &Map<String, Value>,
    json_file: Option<&TokenizerJson>,
    bos: &str,
    eos: &str,
) -> Vec<(&'static str, bool)> {
    let by_settings = ["bos", "eos", "sep"]
        .into_iter()
        .filter_map(|kind| Some((kind, settings.get(&format!("add_{kind}_token"))?.as_bool()?)));
    let mut adds: Vec<(&'static str, bool)> = Vec::new();
    for (kind, add) in
        json_file.map(|json_file| json_file.added_around(bos, eos)).unwrap_or_default().into_iter().chain(by_settings)
    {
        match adds.iter_mut().find(|(known, _)| *known == kind) {
            Some(known) => known.1 = add,
            None => adds.push((kind, add)),
        }
    }
    adds
}

/// Settles whether bos is added before a text where the files do not say so, or there is no bos. llama.cpp adds it by
/// default for some pre-tokenizers, and takes token 11 for a missing bos.
pub(super) fn settle_bos(adds: &mut Vec<(&'static str, bool)>, has_bos: bool, pre: &str, is_granite: bool) {
    match adds.iter_mut().find(|(kind, _)| *kind == "bos") {
        Some(add) => add.1 &= has_bos,
        None if matches!(pre, "llama-bpe" | "tekken") || is_granite => adds.insert(0, ("bos", false)),
        None => {}
    }
}

/// Returns the ids other than eos that end an answer. These tokens, bos and eos become control tokens, so that no
/// message can contain them (added_tokens.json has no token types).
pub(super) fn end_tokens(
    named: &[EndToken],
    tokens: &mut [Token],
    (bos, eos): (Option<u32>, u32),
    pad: Option<u32>,
    notes: &mut Vec<String>,
) -> Vec<u32> {
    let mut ends = Vec::new();
    for end in named {
        let known = u32::try_from(end.id).ok().filter(|id| (*id as usize) < tokens.len());
        let Some(id) = known else {
            notes.push(format!("eos_token_id {} is past the embedding; ignored", end.id));
            continue;
        };
        // ignore a single id of an ordinary token: it is a mistake in the file
        let kind = tokens[id as usize].kind;
        let own = matches!(kind, TokenKind::Control | TokenKind::UserDefined) && Some(id) != bos && Some(id) != pad;
        if id != eos && (end.listed || own) {
            ends.push(id);
        }
    }
    // GGUF has a key for the end of a message, after the one for the end of a turn
    if let Some(at) = ends.iter().position(|id| tokens[*id as usize].text == "<|eom_id|>") {
        let eom = ends.remove(at);
        ends.insert(ends.len().min(1), eom);
    }
    for id in ends.iter().copied().chain(bos).chain([eos]) {
        let token = &mut tokens[id as usize];
        if token.kind == TokenKind::UserDefined {
            token.kind = TokenKind::Control;
        }
    }
    if !ends.is_empty() {
        let name = |id: &u32| format!("{} ({id})", display_text(&tokens[*id as usize].text));
        let all: Vec<String> = [eos].iter().chain(&ends).map(name).collect();
        notes.push(format!("answers end at each of {}, as eos_token_id says", all.join(", ")));
    }
    ends
}

/// Returns where a space is put before a text. tokenizer.json, which defines Transformers' fast tokenizer, takes
/// precedence.
pub(super) fn prefix_space(
    settings: &Map<String, Value>,
    json_file: Option<&TokenizerJson>,
    add_space_prefix: Option<bool>,
    notes: &mut Vec<String>,
) -> PrefixSpace {
    let modern = settings.get("legacy") == Some(&Value::Bool(false));
    let named = json_file.and_then(TokenizerJson::prefix_space).unwrap_or(if modern {
        PrefixSpace::First
    } else {
        PrefixSpace::Always
    });
    // GGUF has a key for "no space at all", which the converter writes
    if add_space_prefix == Some(false) || named == PrefixSpace::Always {
        return PrefixSpace::Always;
    }
    let place = if named == PrefixSpace::First { "only at the start of a prompt" } else { "nowhere" };
    notes.push(format!(
        "the tokenizer puts a space before a text {place} (legacy: false), and so does this program; others put one \
         after every special token, because a GGUF cannot store this, so their token ids differ from Transformers'"
    ));
    named
}

/// Builds the key-value pairs.
pub(super) fn metadata(
    ids: Vec<(&'static str, u32)>,
    adds: Vec<(&'static str, bool)>,
    mut ends: Vec<u32>,
    spaces: PrefixSpace,
    rows: usize,
) -> TokenizerMetadata {
    let mut keys = vec!["eot", "eom"].into_iter();
    let mut all = TokenizerMetadata {
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
    all.ends = keys.by_ref().zip(ends.by_ref()).map(|(key, id)| number(key, id)).collect();
    let rest: Vec<String> = ends.map(|id| id.to_string()).collect();
    let mut own = |key: &str, value: String| {
        all.own.push((format!("tulu_quant.tokenizer.{key}"), gguf::Value::Str(value)));
    };
    if !rest.is_empty() {
        own("end_token_ids", rest.join(","));
    }
    match spaces {
        PrefixSpace::Always => {}
        PrefixSpace::First => own("prefix_space", "first".to_owned()),
        PrefixSpace::Never => own("prefix_space", "never".to_owned()),
    }
    all
}

fn number(key: &str, id: u32) -> (String, gguf::Value) {
    (format!("tokenizer.ggml.{key}_token_id"), gguf::Value::U32(id))
}
