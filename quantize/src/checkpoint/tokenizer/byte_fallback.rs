//! Makes SentencePiece tokens of a tokenizer.json with byte fallback: Llama 2 as Transformers 5 saves it, without
//! tokenizer.model.
//!
//! llama.cpp's converter (`LlamaHfVocab`) gives all tokens the same score, so that llama.cpp merges from left to right,
//! and half of all texts get other ids than in Transformers. Here the scores follow the order of the merges, with which
//! llama.cpp merges as Transformers does. Rows without a token are filled up, without which llama.cpp loads no file.

use super::added_tokens::{self, Spelling};
use super::bpe_model::BpeModel;
use super::fast_added_tokens::AddedToken;
use super::merge_order;
use super::token::{SCORE_ADDED, SCORE_PADDING, Token, TokenKind, display_text};
use super::tokenizer_json::TokenizerJson;
use crate::error::{Code, Error, Result};
use serde_json::Value;
use std::collections::HashSet;

/// SentencePiece's mark for a space.
const SPACE: &str = "\u{2581}";

/// Returns a vocabulary of `rows` tokens. `added` are all added tokens.
pub(super) fn vocabulary(
    json: &TokenizerJson,
    model: &BpeModel,
    added: &[AddedToken],
    rows: usize,
    notes: &mut Vec<String>,
) -> Result<Vec<Token>> {
    let fix = "take tokenizer.model from the model's base model, or convert the model with llama.cpp's \
               convert_hf_to_gguf.py";
    let bad = |what: String| Error::new(Code::Tokenizer, json.path(), what, fix);
    check_spaces(json.normalizer(), json.pre_tokenizer()).map_err(bad)?;
    let mut tokens = added_tokens::unused_rows(rows, SCORE_PADDING);
    let scores = merge_order::scores(model);
    let (mut bytes, mut unmade) = (0, 0);
    let is_added: HashSet<&str> = added.iter().map(|token| token.text.as_str()).collect();
    for ((text, id), score) in model.vocab().iter().zip(scores) {
        let Some(token) = tokens.get_mut(*id as usize) else {
            let text = display_text(text);
            let what = format!("has token '{text}' at {id}, but the embedding has {rows} rows (vocab_size)");
            return Err(Error::new(Code::Tokenizer, json.path(), what, "take the files of one repository"));
        };
        let kind = if is_byte(text) { TokenKind::Byte } else { TokenKind::Normal };
        bytes += usize::from(kind == TokenKind::Byte);
        let is_long = kind == TokenKind::Normal && text.chars().count() > 1 && !is_added.contains(text.as_str());
        unmade += usize::from(is_long && score.is_none());
        *token = Token { text: text.clone(), score: score.unwrap_or(0.0), kind };
    }
    if bytes != 256 {
        let what = format!("has {bytes} of the 256 byte tokens <0x00> to <0xFF>; without them some text has no tokens");
        return Err(bad(what));
    }
    let unlisted = merge_order::unlisted_splits(model);
    if unmade + unlisted > 0 {
        notes.push(format!(
            "tokenizer.json has {unmade} tokens that no merge makes, and lacks {unlisted} merges of two tokens into a \
             third; llama.cpp merges these too, so some ids may differ from Transformers'"
        ));
    }
    added_tokens::put(added, &mut tokens, Spelling::Unchanged, SCORE_ADDED, notes);
    // special tokens of the model itself have no score of their own
    let ids = model.ids();
    for token in added.iter().filter(|token| ids.contains_key(token.text.as_str())) {
        if let Some(token) = tokens.get_mut(token.id as usize) {
            token.score = 0.0;
        }
    }
    Ok(tokens)
}

/// Whether `text` is the name of a byte: `<0x0A>`.
fn is_byte(text: &str) -> bool {
    let digits = text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Checks that the text is only changed as SentencePiece does: a space becomes U+2581, and one may be put in front.
fn check_spaces(normalizer: &Value, pre_tokenizer: &Value) -> std::result::Result<(), String> {
    let kind = |step: &Value| step.get("type").and_then(Value::as_str).unwrap_or("without a type").to_owned();
    let text = |step: &Value, key: &str| step.get(key).and_then(Value::as_str).map(str::to_owned);
    let steps = match normalizer.get("normalizers") {
        Some(Value::Array(all)) => all.iter().collect(),
        _ if normalizer.is_null() => Vec::new(),
        _ => vec![normalizer],
    };
    for step in steps {
        let known = match kind(step).as_str() {
            "Prepend" => text(step, "prepend").as_deref() == Some(SPACE),
            "Replace" => {
                let pattern = step.get("pattern").and_then(|pattern| text(pattern, "String"));
                pattern.as_deref() == Some(" ") && text(step, "content").as_deref() == Some(SPACE)
            }
            _ => false,
        };
        if !known {
            return Err(format!("has the normalizer {}, which a GGUF cannot store", kind(step)));
        }
    }
    let splits = pre_tokenizer.get("split") != Some(&Value::Bool(false));
    let is_metaspace =
        kind(pre_tokenizer) == "Metaspace" && text(pre_tokenizer, "replacement").as_deref() == Some(SPACE);
    match pre_tokenizer {
        Value::Null if normalizer.is_null() => Err("does not replace spaces by U+2581, as Llama 2 does".to_owned()),
        Value::Null => Ok(()),
        _ if is_metaspace && !splits => Ok(()),
        _ if is_metaspace => Err("has a Metaspace that splits words, which a GGUF cannot store".to_owned()),
        other => Err(format!("has the pre-tokenizer {}, which a GGUF cannot store", kind(other))),
    }
}
