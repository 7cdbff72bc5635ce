//! Reads the vocabulary: tokenizer.model (SentencePiece) and the tokens that added_tokens.json and
//! tokenizer_config.json add, one token for each row of the embedding.
//!
//! Precedence, scores and token types are those of llama.cpp's converter (`_create_vocab_sentencepiece`). In addition,
//! the pieces are checked for input that makes llama.cpp abort, and bos and eos are checked against the vocabulary: in
//! some Tulu 2.5 repositories generation_config.json has bos 0 and eos 1, with which a model never stops.

mod added_tokens;
mod sentencepiece;
mod special_tokens;
mod token;
mod tokenizer_json;

use super::config::{Config, ConfigExtras};
use super::json;
use crate::error::{Code, Error, Result};
use crate::files::exists;
use serde_json::Value;
use std::collections::HashSet;
use std::path::Path;
pub(crate) use token::TokenizerMetadata;
use token::{SCORE_PADDING, display_text};
pub use token::{Token, TokenKind};
use tokenizer_json::TokenizerJson;

/// The vocabulary and the ids of its special tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Tokenizer {
    /// One token for each row of the embedding.
    pub tokens: Vec<Token>,
    /// Id of `<s>`.
    pub bos: u32,
    /// Id of `</s>`.
    pub eos: u32,
    /// Id of the padding token, if there is one.
    pub pad: Option<u32>,
    /// `add_bos_token` of tokenizer_config.json.
    pub add_bos: Option<bool>,
    /// `add_eos_token` of tokenizer_config.json.
    pub add_eos: Option<bool>,
    /// `add_prefix_space` of tokenizer_config.json (absent in every Tulu repository).
    pub add_space_prefix: Option<bool>,
}

impl Tokenizer {
    /// Reads the vocabulary of the checkpoint in `dir`, and further metadata of the tokenizer.
    ///
    /// # Errors
    /// [`Code::Tokenizer`] when tokenizer.model is missing, damaged or unsupported, [`Code::Json`] for the JSON files.
    pub(crate) fn read(
        dir: &Path,
        config: &Config,
        extras: &ConfigExtras,
        notes: &mut Vec<String>,
    ) -> Result<(Self, TokenizerMetadata)> {
        let path = dir.join("tokenizer.model");
        if !exists(&path)? {
            let only = exists(&dir.join("tokenizer.json"))?;
            let what = if only { "has only tokenizer.json" } else { "has no tokenizer.model" };
            let fix = "take tokenizer.model from the model's repository, or from its base model (Llama 2)";
            return Err(Error::new(Code::Tokenizer, dir, what, fix));
        }
        let mut tokens = sentencepiece::read(&path)?;
        let rows = config.vocab_size as usize;
        if tokens.len() > rows {
            let what = format!("has {} pieces, more than the {rows} rows of the embedding (vocab_size)", tokens.len());
            return Err(Error::new(Code::Tokenizer, &path, what, "take the tokenizer.model of the same repository"));
        }
        for id in tokens.len()..rows {
            tokens.push(Token { text: format!("[PAD{id}]"), score: SCORE_PADDING, kind: TokenKind::Unused });
        }
        added_tokens::from_added_tokens_json(dir, &mut tokens, notes)?;
        let settings_path = dir.join("tokenizer_config.json");
        let settings = json::read_optional(&settings_path)?.unwrap_or_default();
        added_tokens::from_tokenizer_config(&settings_path, &settings, &mut tokens, notes)?;
        let json_file = TokenizerJson::read(dir)?;
        if let Some(json_file) = &json_file {
            json_file.check(&tokens, notes)?;
        }
        check_unique(&path, &tokens)?;

        let named = special_tokens::with_special_tokens_map(dir, &settings)?;
        let find = |key: &str, usual: &str, in_config: Option<u32>, notes: &mut Vec<String>| {
            let (text, id) = special_tokens::find(&path, &named, &tokens, key, usual)?;
            if let Some(in_config) = in_config.filter(|in_config| *in_config != id) {
                let text = display_text(&text);
                notes.push(format!(
                    "config.json has {key} {in_config}; the vocabulary has {text} at {id}, which is used"
                ));
            }
            Ok((text, id))
        };
        let (bos_text, bos) = find("bos_token", "<s>", config.bos_token_id, notes)?;
        let (eos_text, eos) = find("eos_token", "</s>", config.eos_token_id, notes)?;
        let around = special_tokens::added_around(&settings, json_file.as_ref(), &bos_text, &eos_text);
        let ids = special_tokens::ids(&settings, json_file.as_ref(), &extras.json, rows);
        let pad = ids.iter().find(|(kind, _)| *kind == "padding").map(|(_, id)| *id);
        let ends = special_tokens::end_tokens(&extras.end_tokens, &mut tokens, [bos, eos], pad, notes);
        let flag = |key: &str| settings.get(key).and_then(Value::as_bool);
        let add_space_prefix = flag("add_prefix_space");
        let spaces = special_tokens::prefix_space(&settings, json_file.as_ref(), add_space_prefix, notes);
        let added = |kind: &str| around.iter().find(|(k, _)| *k == kind).map(|(_, add)| *add);
        let tokenizer = Self { bos, eos, pad, add_bos: added("bos"), add_eos: added("eos"), add_space_prefix, tokens };
        Ok((tokenizer, special_tokens::metadata(ids, around, ends, spaces, rows)))
    }
}

/// Checks that no two tokens have the same text: llama.cpp would abort.
fn check_unique(path: &Path, tokens: &[Token]) -> Result<()> {
    let mut seen = HashSet::new();
    match tokens.iter().position(|t| !seen.insert(t.text.as_str())) {
        None => Ok(()),
        Some(id) => {
            let what = format!("token {id} has the text '{}', which another token has", display_text(&tokens[id].text));
            Err(Error::new(Code::Tokenizer, path, what, "take the tokenizer files of one repository"))
        }
    }
}
