//! Checks the vocabulary of a GGUF file before llama.cpp loads it, and reads the rules that llama.cpp has no keys for.
//! Two kinds are accepted: SentencePiece (`tokenizer.ggml.model` is `llama`) and byte-level BPE (`gpt2`, as in Llama 3).

#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::as_conversions))]

use super::Token;
use super::vocab::{Rules, Spaces};
use crate::stderr;
use std::collections::HashMap;
use tulu_quantize::gguf::{Array, Gguf, Value};

/// Texts of tokens that end an answer in known vocabularies (the first ones of llama.cpp's list), for a file that names
/// no EOS.
const END_TEXTS: [&str; 7] =
    ["<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|end_of_text|>", "<|endoftext|>", "</s>"];

/// Checks the assumptions of llama.cpp's tokenizer about the vocabulary of `n_vocab` tokens.
pub(super) fn check(gguf: &Gguf, n_vocab: u32) -> Result<Rules, String> {
    let Some(Value::Array(Array::Str(tokens))) = gguf.get("tokenizer.ggml.tokens") else {
        return Err("tokenizer.ggml.tokens is missing".to_owned());
    };
    let mut ids: HashMap<&str, u32> = HashMap::with_capacity(tokens.len());
    for (id, token) in (0..).zip(tokens) {
        if token.is_empty() || token.contains('\0') || ids.insert(token, id).is_some() {
            return Err(format!("tokenizer.ggml.tokens has an empty, repeated or impossible token '{token}'"));
        }
    }
    let len = |key: &str| match gguf.get(key) {
        Some(Value::Array(array @ (Array::F32(_) | Array::I32(_)))) => Some(array.len()),
        _ => None,
    };
    let one_each = |key: &str| match len(key) == Some(tokens.len()) {
        true => Ok(()),
        false => Err(format!("{key} does not have one entry for each of the {n_vocab} tokens")),
    };
    one_each("tokenizer.ggml.token_type")?;
    let mut rules = own_rules(gguf);
    match gguf.str("tokenizer.ggml.model") {
        Some("llama") => {
            if let Some(byte) = (0..=255_u8).find(|byte| !ids.contains_key(format!("<0x{byte:02X}>").as_str())) {
                return Err(format!("tokenizer.ggml.tokens has no token for the byte 0x{byte:02X}"));
            }
            one_each("tokenizer.ggml.scores")?;
            rules.has_bos = token_id(gguf, "tokenizer.ggml.bos_token_id", n_vocab)?.is_some();
            if !rules.has_bos {
                return Err("tokenizer.ggml.bos_token_id is missing".to_owned());
            }
            token_id(gguf, "tokenizer.ggml.eos_token_id", n_vocab)?.ok_or("tokenizer.ggml.eos_token_id is missing")?;
        }
        Some("gpt2") => bpe(gguf, &ids, n_vocab, &mut rules)?,
        found => {
            let found = found.unwrap_or("missing");
            return Err(format!("tokenizer.ggml.model is {found}, not llama (SentencePiece) or gpt2 (byte-level BPE)"));
        }
    }
    Ok(rules)
}

/// Checks a byte-level BPE vocabulary.
fn bpe(gguf: &Gguf, ids: &HashMap<&str, u32>, n_vocab: u32, rules: &mut Rules) -> Result<(), String> {
    if !matches!(gguf.get("tokenizer.ggml.merges"), Some(Value::Array(Array::Str(_)))) {
        return Err("tokenizer.ggml.merges is missing".to_owned());
    }
    if gguf.get("tokenizer.ggml.pre").is_none() {
        stderr::note(
            "tokenizer.ggml.pre is missing: text is split by llama.cpp's default rule, which gives other tokens than \
             most models were trained with; use a newer file of this model",
        );
    }
    rules.has_bos = token_id(gguf, "tokenizer.ggml.bos_token_id", n_vocab)?.is_some();
    if token_id(gguf, "tokenizer.ggml.eos_token_id", n_vocab)?.is_none() {
        // llama.cpp then takes the token 11, a comma in most vocabularies.
        let known = END_TEXTS.iter().find_map(|text| ids.get(text).copied());
        let end = rules.ends.iter().find_map(|end| u32::try_from(end.0).ok().filter(|id| *id < n_vocab)).or(known);
        rules.eos =
            Some(end.ok_or("tokenizer.ggml.eos_token_id is missing, and no token such as <|eot_id|> ends a turn")?);
    }
    Ok(())
}

/// Returns the token id in `key`, `None` if the key is missing.
fn token_id(gguf: &Gguf, key: &str, n_vocab: u32) -> Result<Option<u32>, String> {
    match gguf.get(key) {
        None => Ok(None),
        Some(Value::U32(id)) if *id < n_vocab => Ok(Some(*id)),
        Some(other) => Err(format!("{key} is {other}, not one of the {n_vocab} tokens")),
    }
}

/// Reads our own keys about tokens (docs/metadata.md), which llama.cpp does not have.
fn own_rules(gguf: &Gguf) -> Rules {
    let text = |key: &str| gguf.str(&format!("tulu_quant.tokenizer.{key}"));
    let ends = text("end_token_ids").unwrap_or_default().split(',');
    let spaces = match text("prefix_space") {
        Some("first") => Some(Spaces::First),
        Some("never") => Some(Spaces::Never),
        _ => None,
    };
    Rules { ends: ends.filter_map(|id| id.trim().parse().ok().map(Token::new)).collect(), spaces, ..Rules::default() }
}
