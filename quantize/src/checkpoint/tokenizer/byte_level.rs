//! Makes the tokens of a byte-level tokenizer.json (Llama 3, Tulu 3), like `get_vocab_base` of llama.cpp's converter:
//! those of the model in their byte-level spelling (`Ġ` for a space), then the added ones.

use super::added_tokens::{self, Spelling};
use super::bpe_model::{BpeModel, Merge};
use super::fast_added_tokens::AddedToken;
use super::merge_order;
use super::pre_tokenizer;
use super::token::{Algorithm, Token, TokenKind, display_text};
use super::tokenizer_json::TokenizerJson;
use crate::error::{Code, Error, Result};

/// How to continue when a tokenizer is not supported.
const FIX: &str = "convert such a model with llama.cpp's convert_hf_to_gguf.py";

/// Returns the vocabulary with `rows` tokens and its algorithm. `added` are all added tokens.
pub(super) fn vocabulary(
    json: &TokenizerJson,
    model: &BpeModel,
    added: &[AddedToken],
    rows: usize,
    notes: &mut Vec<String>,
) -> Result<(Vec<Token>, Algorithm)> {
    let pre = pre_tokenizer(json, model, notes)?;
    let mut tokens = added_tokens::unused_rows(rows, 0.0);
    let mut missing: Vec<u8> = (0..=255).collect();
    for (text, id) in model.vocab() {
        let Some(token) = tokens.get_mut(*id as usize) else {
            let what = format!(
                "has token '{}' at {id}, but the embedding has {rows} rows (vocab_size in config.json)",
                display_text(text)
            );
            return Err(Error::new(Code::Tokenizer, json.path(), what, "take the files of one repository"));
        };
        *token = Token { text: text.clone(), score: 0.0, kind: TokenKind::Normal };
        let mut chars = text.chars();
        if let (Some(byte), None) = (chars.next().and_then(byte_of), chars.next()) {
            missing.retain(|other| *other != byte);
        }
    }
    if let [first, ..] = missing.as_slice() {
        notes.push(format!(
            "tokenizer.json has no token for {} of the 256 bytes (the first is 0x{first:02X}); such bytes are lost from \
             a text, in Transformers too",
            missing.len()
        ));
    }
    added_tokens::put(added, &mut tokens, Spelling::Spaces, 0.0, notes);
    // as gguf-py's `SpecialVocab` writes them
    let spelled = |half: &str| half.replace(' ', "Ġ");
    let joined = |merge: &Merge| format!("{} {}", spelled(&merge.left), spelled(&merge.right));
    let merges = model.merges.iter().map(joined).collect();
    Ok((tokens, Algorithm::ByteLevelBpe { pre: pre.into(), merges }))
}

/// Returns llama.cpp's name for the pre-tokenizer.
fn pre_tokenizer(json: &TokenizerJson, model: &BpeModel, notes: &mut Vec<String>) -> Result<&'static str> {
    let splitter = pre_tokenizer::recognize(json.normalizer(), json.pre_tokenizer()).map_err(|found| {
        let what = format!("has {found}, and llama.cpp has none that is known to be equal");
        Error::new(Code::Tokenizer, json.path(), what, FIX)
    })?;
    let whole_words = model.ignore_merges == Some(true);
    let (wanted, other) = match whole_words {
        true => (splitter.whole_words, splitter.by_merges),
        false => (splitter.by_merges, splitter.whole_words),
    };
    let lost = if whole_words && wanted.is_some() { 0 } else { merge_order::unreachable(model) };
    match (wanted, other) {
        // Without such tokens, both ways give the same ids.
        (Some(_), Some(other)) if !whole_words && lost == 0 => Ok(other),
        // Files of Llama 3.0 do not have the key; Meta's own tokenizer keeps whole words.
        (Some(_), Some(other)) if model.ignore_merges.is_none() => {
            notes.push(format!(
                "tokenizer.json does not set ignore_merges; {lost} tokens that no merges make are kept as whole words, \
                 as in Meta's tokenizer (Transformers splits them)"
            ));
            Ok(other)
        }
        (Some(wanted), _) => Ok(wanted),
        (None, Some(other)) if lost == 0 => Ok(other),
        (None, _) => {
            let what = format!(
                "has ignore_merges {whole_words} and {lost} tokens that no merges make; llama.cpp has no such \
                 pre-tokenizer"
            );
            Err(Error::new(Code::Tokenizer, json.path(), what, FIX))
        }
    }
}

/// Returns the byte that a character of the byte-level alphabet stands for (`bytes_to_unicode` of GPT-2): printable
/// characters of Latin-1 stand for themselves, the other bytes for U+0100 and so on, in ascending order.
pub(super) fn byte_of(c: char) -> Option<u8> {
    let stands_for_itself = |b: &u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    match u32::from(c) {
        code @ 0..=0xFF => u8::try_from(code).ok().filter(stands_for_itself),
        code => {
            let number = usize::try_from(code).ok()?.checked_sub(0x100)?;
            (0..=255_u8).filter(|b| !stands_for_itself(b)).nth(number)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::byte_of;

    #[test]
    fn spells_every_byte_as_gpt_2_does() {
        // the last are of the alphabet's table in GPT-2's encoder.py
        for (c, byte) in [('a', 0x61), ('Ġ', 0x20), ('Ċ', 0x0A), ('ĉ', 0x09), ('Ā', 0x00), ('ł', 0xA0), ('Ń', 0xAD)]
        {
            assert_eq!(byte_of(c), Some(byte), "{c}");
        }
        for c in [' ', '\n', '▁', 'ń', '\u{ad}'] {
            assert_eq!(byte_of(c), None, "{c:?}");
        }
        let all: std::collections::HashSet<u8> = ('\0'..='ŀ').chain(['Ł', 'ł', 'Ń']).filter_map(byte_of).collect();
        assert_eq!(all.len(), 256);
    }
}
