//! Tokens that the JSON files add to tokenizer.model, as llama.cpp's converter adds them.

use super::token::{SCORE_ADDED, Token, TokenKind, shown};
use crate::checkpoint::json;
use crate::error::{Code, Error, Result};
use serde_json::{Map, Value};
use std::path::Path;

/// added_tokens.json: text → id, put over the padding rows (tulu-1 and many derivatives have `<pad>` at 32000).
pub(super) fn from_list(dir: &Path, tokens: &mut [Token], notes: &mut Vec<String>) -> Result<()> {
    let path = dir.join("added_tokens.json");
    let Some(json) = json::read_optional(&path)? else { return Ok(()) };
    for (text, id) in json {
        match id.as_u64().and_then(|id| usize::try_from(id).ok()) {
            Some(id) if id < tokens.len() => {
                let kind = kept(&tokens[id], &text).unwrap_or(TokenKind::UserDefined);
                tokens[id] = Token { text, score: SCORE_ADDED, kind };
            }
            Some(id) => {
                notes.push(format!("added_tokens.json: '{}' has id {id}, past the embedding; left out", shown(&text)));
            }
            None => {
                let what = format!("'{}' has id {id}", shown(&text));
                return Err(Error::new(Code::Json, &path, what, "download the file again"));
            }
        }
    }
    Ok(())
}

/// The model's own control and unknown tokens stay what they are: as tokens of the user, any text could write them.
fn kept(token: &Token, text: &str) -> Option<TokenKind> {
    (token.text == text && matches!(token.kind, TokenKind::Control | TokenKind::Unknown)).then_some(token.kind)
}

/// `added_tokens_decoder` of tokenizer_config.json: id → what the token is.
pub(super) fn from_decoder(
    path: &Path,
    settings: &Map<String, Value>,
    tokens: &mut [Token],
    notes: &mut Vec<String>,
) -> Result<()> {
    let Some(Value::Object(decoder)) = settings.get("added_tokens_decoder") else { return Ok(()) };
    let mut stripping = Vec::new();
    for (id, token) in decoder {
        let (Ok(id), Some(text)) = (id.parse::<usize>(), token.get("content").and_then(Value::as_str)) else {
            let what = format!("added_tokens_decoder has a broken entry '{}'", shown(id));
            return Err(Error::new(Code::Json, path, what, "download the file again"));
        };
        if id >= tokens.len() {
            let text = shown(text);
            notes.push(format!("tokenizer_config.json: '{text}' has id {id}, past the embedding; left out"));
            continue;
        }
        let flag = |key: &str| token.get(key).and_then(Value::as_bool).unwrap_or(false);
        if ["lstrip", "rstrip", "single_word"].into_iter().any(flag) {
            stripping.push(shown(text));
        }
        tokens[id] = if flag("special") || looks_special(text) {
            Token { text: text.to_owned(), score: SCORE_ADDED, kind: TokenKind::Control }
        } else if let Some(kind) = kept(&tokens[id], text) {
            Token { text: text.to_owned(), score: SCORE_ADDED, kind }
        } else {
            Token { text: text.replace('\u{2581}', " "), score: SCORE_ADDED, kind: TokenKind::UserDefined }
        };
    }
    if let [first, rest @ ..] = stripping.as_slice() {
        let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
        notes.push(format!(
            "tokenizer_config.json: '{first}'{more} takes spaces beside it, or only whole words (lstrip, rstrip, \
             single_word); a GGUF cannot say so, and ids there differ from Transformers'"
        ));
    }
    Ok(())
}

/// Tokens that llama.cpp's converter takes for control tokens by their look.
fn looks_special(text: &str) -> bool {
    const NAMES: [&str; 4] = ["<pad>", "<mask>", "<2mass>", "[@BOS@]"];
    NAMES.contains(&text)
        || (text.starts_with("<|") && text.ends_with("|>"))
        || (text.starts_with("<\u{ff5c}") && text.ends_with("\u{ff5c}>"))
        || (text.starts_with("<unused") && text.ends_with('>'))
}
