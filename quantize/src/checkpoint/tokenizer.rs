//! Reads the vocabulary, one token for each row of the embedding, from tokenizer.model (SentencePiece) and the tokens
//! that the JSON files add, or from tokenizer.json alone: byte-level BPE (Llama 3), or BPE with byte
//! fallback (Llama 2 as Transformers 5 saves it).
//!
//! Precedence, scores and token types are those of llama.cpp's converter (`_create_vocab_sentencepiece`,
//! `_set_vocab_gpt2`). In addition, the pieces are checked for input that makes llama.cpp abort, and bos and eos are
//! checked against the vocabulary: in some Tulu 2.5 repositories generation_config.json has bos 0 and eos 1, with which
//! a model never stops.

mod added_tokens;
mod bpe_model;
mod byte_fallback;
mod byte_level;
mod fast_added_tokens;
mod merge_order;
mod pre_tokenizer;
mod sentencepiece;
mod special_tokens;
mod token;
mod tokenizer_json;

use super::config::{Config, ConfigExtras};
use super::json;
use crate::error::{Code, Error, Result};
use crate::files::exists;
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
pub(crate) use token::TokenizerMetadata;
pub use token::{Algorithm, Token, TokenKind};
use token::{PrefixSpace, SCORE_PADDING, display_text};
use tokenizer_json::TokenizerJson;

/// The vocabulary and the ids of its special tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Tokenizer {
    /// One token for each row of the embedding.
    pub tokens: Vec<Token>,
    /// How a text becomes tokens.
    pub algorithm: Algorithm,
    /// Id of the token before a text (`<s>`), if there is one.
    pub bos: Option<u32>,
    /// Id of the token that ends an answer (`</s>`).
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

/// The small files that describe special tokens.
struct Settings {
    path: PathBuf,
    /// tokenizer_config.json; empty when the file does not exist.
    json: Map<String, Value>,
    /// The same, with special_tokens_map.json where Transformers reads it.
    named: Map<String, Value>,
}

/// The tokens before special ones are looked up.
struct Vocabulary {
    /// The file that errors name.
    path: PathBuf,
    tokens: Vec<Token>,
    algorithm: Algorithm,
    json_file: Option<TokenizerJson>,
}

/// The vocabulary size by which llama.cpp's converter recognizes small Granite models, which need no bos.
const GRANITE_ROWS: usize = 49_152;

impl Tokenizer {
    /// Reads the vocabulary of the checkpoint in `dir`, and further metadata of the tokenizer.
    ///
    /// # Errors
    /// [`Code::Tokenizer`] when the tokenizer is missing, damaged or unsupported, [`Code::Json`] for the JSON files.
    pub(crate) fn read(
        dir: &Path,
        config: &Config,
        extras: &ConfigExtras,
        notes: &mut Vec<String>,
    ) -> Result<(Self, TokenizerMetadata)> {
        let rows = config.vocab_size as usize;
        let path = dir.join("tokenizer_config.json");
        let json = json::read_optional(&path)?.unwrap_or_default();
        let named = special_tokens::with_special_tokens_map(dir, &json)?;
        let settings = Settings { path, json, named };
        let vocabulary = if exists(&dir.join("tokenizer.model"))? {
            from_sentencepiece(dir, &settings, rows, notes)?
        } else if exists(&dir.join("tokenizer.json"))? {
            from_json(dir, &settings, rows, notes)?
        } else {
            let fix = "take the tokenizer files from the model's repository, or from its base model";
            return Err(Error::new(Code::Tokenizer, dir, "has neither tokenizer.model nor tokenizer.json", fix));
        };
        check_unique(&vocabulary.path, &vocabulary.tokens)?;
        with_special_tokens(vocabulary, &settings, config, extras, notes)
    }

    /// Returns the text of a token; empty for an id past the vocabulary.
    #[must_use]
    pub fn text(&self, id: u32) -> &str {
        self.tokens.get(id as usize).map_or("", |token| token.text.as_str())
    }
}

/// Reads tokenizer.model, added_tokens.json and `added_tokens_decoder`.
fn from_sentencepiece(dir: &Path, settings: &Settings, rows: usize, notes: &mut Vec<String>) -> Result<Vocabulary> {
    let path = dir.join("tokenizer.model");
    let mut tokens = sentencepiece::read(&path)?;
    if tokens.len() > rows {
        let what = format!("has {} pieces, more than the {rows} rows of the embedding (vocab_size)", tokens.len());
        return Err(Error::new(Code::Tokenizer, &path, what, "take the tokenizer.model of the same repository"));
    }
    for id in tokens.len()..rows {
        tokens.push(Token { text: format!("[PAD{id}]"), score: SCORE_PADDING, kind: TokenKind::Unused });
    }
    added_tokens::from_added_tokens_json(dir, &mut tokens, notes)?;
    added_tokens::from_tokenizer_config(&settings.path, &settings.json, &mut tokens, notes)?;
    let json_file = TokenizerJson::read(dir)?;
    if let Some(json_file) = &json_file {
        added_tokens::from_tokenizer_json(json_file, &mut tokens, notes)?;
    }
    Ok(Vocabulary { path, tokens, algorithm: Algorithm::SentencePiece, json_file })
}

/// Reads tokenizer.json and `added_tokens_decoder`, of a folder without tokenizer.model.
fn from_json(dir: &Path, settings: &Settings, rows: usize, notes: &mut Vec<String>) -> Result<Vocabulary> {
    let (json, model) = TokenizerJson::read_with_model(dir)?;
    let added = fast_added_tokens::collect(&json, &model, (&settings.path, &settings.json), &settings.named)?;
    let (tokens, algorithm) = if model.has_byte_fallback() {
        (byte_fallback::vocabulary(&json, &model, &added, rows, notes)?, Algorithm::SentencePiece)
    } else {
        byte_level::vocabulary(&json, &model, &added, rows, notes)?
    };
    Ok(Vocabulary { path: json.path().to_owned(), tokens, algorithm, json_file: Some(json) })
}

/// Finds the special tokens, and builds the tokenizer and its further metadata.
fn with_special_tokens(
    vocabulary: Vocabulary,
    settings: &Settings,
    config: &Config,
    extras: &ConfigExtras,
    notes: &mut Vec<String>,
) -> Result<(Tokenizer, TokenizerMetadata)> {
    let Vocabulary { path, mut tokens, algorithm, json_file } = vocabulary;
    let (named, json_file, rows) = (&settings.named, json_file.as_ref(), tokens.len());
    let (bos, eos) = match &algorithm {
        Algorithm::SentencePiece => {
            let find = |key, usual| special_tokens::find(&path, named, &tokens, key, usual);
            (Some(find("bos_token", "<s>")?), find("eos_token", "</s>")?)
        }
        Algorithm::ByteLevelBpe { .. } => (
            special_tokens::bos_of_json(named, json_file, &tokens, config.bos_token_id),
            special_tokens::eos_of_json(&path, named, &tokens, &extras.end_tokens, notes)?,
        ),
    };
    for (key, id, in_config) in
        [("bos_token_id", bos, config.bos_token_id), ("eos_token_id", Some(eos), config.eos_token_id)]
    {
        if let (Some(id), Some(in_config)) = (id, in_config.filter(|in_config| Some(*in_config) != id)) {
            let text = display_text(&tokens[id as usize].text);
            notes.push(format!("config.json has {key} {in_config}; the vocabulary has {text} at {id}, which is used"));
        }
    }
    let text = |id: Option<u32>| id.map_or("", |id| tokens[id as usize].text.as_str());
    let mut around = special_tokens::added_around(&settings.json, json_file, text(bos), text(Some(eos)));
    if let Algorithm::ByteLevelBpe { pre, .. } = &algorithm {
        special_tokens::settle_bos(&mut around, bos.is_some(), pre, rows == GRANITE_ROWS);
    }
    let ids = special_tokens::ids(&settings.json, json_file, &extras.json, rows);
    let pad = ids.iter().find(|(kind, _)| *kind == "padding").map(|(_, id)| *id);
    let ends = special_tokens::end_tokens(&extras.end_tokens, &mut tokens, (bos, eos), pad, notes);
    let add_space_prefix = settings.json.get("add_prefix_space").and_then(Value::as_bool);
    let spaces = match &algorithm {
        Algorithm::SentencePiece => special_tokens::prefix_space(&settings.json, json_file, add_space_prefix, notes),
        Algorithm::ByteLevelBpe { .. } => PrefixSpace::Always,
    };
    let added = |kind: &str| around.iter().find(|(k, _)| *k == kind).map(|(_, add)| *add);
    let (add_bos, add_eos) = (added("bos"), added("eos"));
    let tokenizer = Tokenizer { tokens, algorithm, bos, eos, pad, add_bos, add_eos, add_space_prefix };
    Ok((tokenizer, special_tokens::metadata(ids, around, ends, spaces, rows)))
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
