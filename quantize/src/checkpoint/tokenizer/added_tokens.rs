//! Adds the tokens in added_tokens.json and tokenizer_config.json to the vocabulary, like llama.cpp's converter.

use super::fast_added_tokens::AddedToken;
use super::token::{SCORE_ADDED, Token, TokenKind, display_text};
use super::tokenizer_json::{Added, TokenizerJson};
use crate::checkpoint::json;
use crate::error::{Code, Error, Result};
use serde_json::{Map, Value};
use std::path::Path;

/// Adds the tokens of added_tokens.json (text → id), which replace padding rows. Tulu 1 and many derivatives have
/// `<pad>` at 32000.
pub(super) fn from_added_tokens_json(dir: &Path, tokens: &mut [Token], notes: &mut Vec<String>) -> Result<()> {
    let path = dir.join("added_tokens.json");
    let Some(json) = json::read_optional(&path)? else { return Ok(()) };
    for (text, id) in json {
        match id.as_u64().and_then(|id| usize::try_from(id).ok()) {
            Some(id) if id < tokens.len() => {
                let kind = kept_kind(&tokens[id], &text).unwrap_or(TokenKind::UserDefined);
                tokens[id] = Token { text, score: SCORE_ADDED, kind };
            }
            Some(id) => {
                notes.push(format!(
                    "added_tokens.json: '{}' has id {id}, past the embedding; ignored",
                    display_text(&text)
                ));
            }
            None => {
                let what = format!("'{}' has id {id}", display_text(&text));
                return Err(Error::new(Code::Json, &path, what, "download the file again"));
            }
        }
    }
    Ok(())
}

/// Returns the type of a control or unknown token of the model, which is kept: if it became a user-defined token,
/// ordinary text could produce it.
fn kept_kind(token: &Token, text: &str) -> Option<TokenKind> {
    (token.text == text && matches!(token.kind, TokenKind::Control | TokenKind::Unknown)).then_some(token.kind)
}

/// Adds the tokens of `added_tokens_decoder` in tokenizer_config.json (id → token).
pub(super) fn from_tokenizer_config(
    path: &Path,
    settings: &Map<String, Value>,
    tokens: &mut [Token],
    notes: &mut Vec<String>,
) -> Result<()> {
    let Some(Value::Object(decoder)) = settings.get("added_tokens_decoder") else { return Ok(()) };
    let mut stripping = Vec::new();
    for (id, token) in decoder {
        let (Ok(id), Some(text)) = (id.parse::<usize>(), token.get("content").and_then(Value::as_str)) else {
            let what = format!("added_tokens_decoder has an invalid entry '{}'", display_text(id));
            return Err(Error::new(Code::Json, path, what, "download the file again"));
        };
        if id >= tokens.len() {
            let text = display_text(text);
            notes.push(format!("tokenizer_config.json: '{text}' has id {id}, past the embedding; ignored"));
            continue;
        }
        let flag = |key: &str| token.get(key).and_then(Value::as_bool).unwrap_or(false);
        if ["lstrip", "rstrip", "single_word"].into_iter().any(flag) {
            stripping.push(display_text(text));
        }
        tokens[id] = if flag("special") || looks_special(text) {
            Token { text: text.to_owned(), score: SCORE_ADDED, kind: TokenKind::Control }
        } else if let Some(kind) = kept_kind(&tokens[id], text) {
            Token { text: text.to_owned(), score: SCORE_ADDED, kind }
        } else {
            Token { text: text.replace('\u{2581}', " "), score: SCORE_ADDED, kind: TokenKind::UserDefined }
        };
    }
    note_stripping(&stripping, notes);
    Ok(())
}

/// Adds a note about tokens that remove spaces around them or count only as whole words.
fn note_stripping(names: &[String], notes: &mut Vec<String>) {
    let [first, rest @ ..] = names else { return };
    let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
    notes.push(format!(
        "the added token '{first}'{more} has lstrip, rstrip or single_word set, which a GGUF cannot store; token ids \
         there differ from Transformers'"
    ));
}

/// Adds the tokens of tokenizer.json that the other files lack, which Transformers knows: they take padding rows. A row
/// with another token is a contradiction.
pub(super) fn from_tokenizer_json(json: &TokenizerJson, tokens: &mut [Token], notes: &mut Vec<String>) -> Result<()> {
    for Added { id, content, special, .. } in json.added_tokens().iter().filter(|token| !token.content.is_empty()) {
        let Some(token) = usize::try_from(*id).ok().and_then(|id| tokens.get_mut(id)) else {
            let text = display_text(content);
            notes.push(format!("tokenizer.json: '{text}' has id {id}, past the embedding; ignored"));
            continue;
        };
        let same = token.text == *content || token.text == content.replace('\u{2581}', " ");
        if !same && token.kind != TokenKind::Unused {
            let what = format!(
                "has the added token '{}' at {id}, where the other tokenizer files have '{}'",
                display_text(content),
                display_text(&token.text)
            );
            let fix = "take the tokenizer files of one repository, or save the tokenizer again with Transformers";
            return Err(Error::new(Code::Tokenizer, json.path(), what, fix));
        }
        if !same {
            *token = added_token(content, *special, Spelling::Spaces, SCORE_ADDED);
        }
    }
    Ok(())
}

/// Returns the entry of an added token.
fn added_token(text: &str, special: bool, spelling: Spelling, score: f32) -> Token {
    if special || looks_special(text) {
        return Token { text: text.to_owned(), score, kind: TokenKind::Control };
    }
    let text = if spelling == Spelling::Spaces { text.replace('\u{2581}', " ") } else { text.to_owned() };
    Token { text, score, kind: TokenKind::UserDefined }
}

/// Returns the tokens of a vocabulary in which every row is unused.
pub(super) fn unused_rows(rows: usize, score: f32) -> Vec<Token> {
    (0..rows).map(|id| Token { text: format!("[PAD{id}]"), score, kind: TokenKind::Unused }).collect()
}

/// How a user-defined token is spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// As in the files.
    Unchanged,
    /// With spaces for SentencePiece's U+2581.
    Spaces,
}

/// Puts the added tokens of a fast tokenizer in their places. Those past the embedding are left out with a note.
pub(super) fn put(added: &[AddedToken], tokens: &mut [Token], spelling: Spelling, score: f32, notes: &mut Vec<String>) {
    let rows = tokens.len();
    let mut past = Vec::new();
    for AddedToken { id, text, special, .. } in added {
        let Some(token) = tokens.get_mut(*id as usize) else {
            past.push(format!("'{}' ({id})", display_text(text)));
            continue;
        };
        *token = added_token(text, *special, spelling, score);
    }
    if let [first, rest @ ..] = past.as_slice() {
        let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
        notes.push(format!("the added token {first}{more} is past the {rows} rows of the embedding; left out"));
    }
    let stripping: Vec<String> = added.iter().filter(|t| t.strips).map(|t| display_text(&t.text)).collect();
    note_stripping(&stripping, notes);
}

/// Whether llama.cpp's converter treats the token as a control token because of its text.
fn looks_special(text: &str) -> bool {
    const NAMES: [&str; 4] = ["<pad>", "<mask>", "<2mass>", "[@BOS@]"];
    NAMES.contains(&text)
        || (text.starts_with("<|") && text.ends_with("|>"))
        || (text.starts_with("<\u{ff5c}") && text.ends_with("\u{ff5c}>"))
        || (text.starts_with("<unused") && text.ends_with('>'))
}
