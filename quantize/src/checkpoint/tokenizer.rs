//! tokenizer.model (a SentencePiece protobuf) with what added_tokens.json and tokenizer_config.json say on top, as a list
//! of as many tokens as the embedding has rows.
//!
//! The order of precedence, the scores of added and padding tokens, and their kinds are those of llama.cpp's converter
//! (`_create_vocab_sentencepiece`), so that the GGUF has the same vocabulary. ConfigExtras it, the pieces are checked for what
//! llama.cpp aborts on, and bos and eos are checked against the vocabulary: the generation_config.json of some Tulu 2.5
//! repositories says bos 0 / eos 1, and a model converted with those never stops.

mod added_tokens;
mod sentencepiece;
mod special_tokens;
mod token;
mod tokenizer_json;

use super::config::{Config, ConfigExtras};
use super::json;
use crate::error::{Code, Error, Result};
use crate::files::is_there;
use serde_json::Value;
use std::collections::HashSet;
use std::path::Path;
pub(crate) use token::TokenizerMetadata;
use token::{SCORE_PADDING, shown};
pub use token::{Token, TokenKind};
use tokenizer_json::TokenizerJson;

/// The vocabulary and the ids with a meaning.
#[derive(Clone, Debug, PartialEq)]
pub struct Tokenizer {
    /// One for each row of the embedding.
    pub tokens: Vec<Token>,
    /// `<s>`.
    pub bos: u32,
    /// `</s>`.
    pub eos: u32,
    /// Padding, when config.json names one in range.
    pub pad: Option<u32>,
    /// `add_bos_token` of tokenizer_config.json.
    pub add_bos: Option<bool>,
    /// `add_eos_token` of tokenizer_config.json.
    pub add_eos: Option<bool>,
    /// `add_prefix_space` of tokenizer_config.json (absent in every Tulu repository).
    pub add_space_prefix: Option<bool>,
}

impl Tokenizer {
    /// Reads the vocabulary of the checkpoint in `dir`, with what its metadata says besides.
    ///
    /// # Errors
    /// [`Code::Tokenizer`] when the file is missing, damaged or not usable, [`Code::Json`] for the JSON files.
    pub(crate) fn read(
        dir: &Path,
        config: &Config,
        extras: &ConfigExtras,
        notes: &mut Vec<String>,
    ) -> Result<(Self, TokenizerMetadata)> {
        let path = dir.join("tokenizer.model");
        if !is_there(&path)? {
            let only = is_there(&dir.join("tokenizer.json"))?;
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
        added_tokens::from_list(dir, &mut tokens, notes)?;
        let settings_path = dir.join("tokenizer_config.json");
        let settings = json::read_optional(&settings_path)?.unwrap_or_default();
        added_tokens::from_decoder(&settings_path, &settings, &mut tokens, notes)?;
        let fast = TokenizerJson::read(dir)?;
        if let Some(fast) = &fast {
            fast.check(&tokens, notes)?;
        }
        check_unique(&path, &tokens)?;

        let named = special_tokens::named(dir, &settings)?;
        let find = |key: &str, usual: &str, said: Option<u32>, notes: &mut Vec<String>| {
            let (text, id) = special_tokens::find(&path, &named, &tokens, key, usual)?;
            if let Some(said) = said.filter(|said| *said != id) {
                let text = shown(&text);
                notes.push(format!(
                    "config.json says {key} is {said}; the vocabulary has {text} at {id}, which is written"
                ));
            }
            Ok((text, id))
        };
        let (bos_text, bos) = find("bos_token", "<s>", config.bos_token_id, notes)?;
        let (eos_text, eos) = find("eos_token", "</s>", config.eos_token_id, notes)?;
        let around = special_tokens::adds(&settings, fast.as_ref(), &bos_text, &eos_text);
        let ids = special_tokens::ids(&settings, fast.as_ref(), &extras.json, rows);
        let pad = ids.iter().find(|(kind, _)| *kind == "padding").map(|(_, id)| *id);
        let ends = special_tokens::ends(&extras.ends, &mut tokens, [bos, eos], pad, notes);
        let flag = |key: &str| settings.get(key).and_then(Value::as_bool);
        let add_space_prefix = flag("add_prefix_space");
        let spaces = special_tokens::spaces(&settings, fast.as_ref(), add_space_prefix, notes);
        let added = |kind: &str| around.iter().find(|(k, _)| *k == kind).map(|(_, add)| *add);
        let tokenizer = Self { bos, eos, pad, add_bos: added("bos"), add_eos: added("eos"), add_space_prefix, tokens };
        Ok((tokenizer, special_tokens::extra(ids, around, ends, spaces, rows)))
    }
}

/// llama.cpp keeps texts in a map and aborts when two tokens share one.
fn check_unique(path: &Path, tokens: &[Token]) -> Result<()> {
    let mut seen = HashSet::new();
    match tokens.iter().position(|t| !seen.insert(t.text.as_str())) {
        None => Ok(()),
        Some(id) => {
            let what = format!("token {id} has the text '{}', which another token has", shown(&tokens[id].text));
            Err(Error::new(Code::Tokenizer, path, what, "take the tokenizer files of one repository"))
        }
    }
}
