//! tokenizer.model (a SentencePiece protobuf) with what added_tokens.json and tokenizer_config.json say on top, as a list
//! of as many tokens as the embedding has rows.
//!
//! The order of precedence, the scores of added and padding tokens, and their kinds are those of llama.cpp's converter
//! (`_create_vocab_sentencepiece`), so that the GGUF has the same vocabulary. Beyond it, the pieces are checked for what
//! llama.cpp aborts on, and bos and eos are checked against the vocabulary: the generation_config.json of some Tulu 2.5
//! repositories says bos 0 / eos 1, and a model converted with those never stops.

use super::{Config, json};
use crate::error::{Code, Error, Result};
use prost::Message as _;
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::path::Path;

/// What a token is. The discriminant is the number in SentencePiece's protobuf and in `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum TokenKind {
    /// Text.
    Normal = 1,
    /// The unknown token.
    Unknown = 2,
    /// Written by templates only: `<s>`, `</s>`.
    Control = 3,
    /// Text that is never split.
    UserDefined = 4,
    /// A row of the embedding that no text reaches.
    Unused = 5,
    /// One byte, for what the vocabulary cannot spell.
    Byte = 6,
}

/// One row of the vocabulary.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Its text; SentencePiece writes a space as U+2581.
    pub text: String,
    /// Log probability, or merge rank negated: higher is merged first.
    pub score: f32,
    /// What it is.
    pub kind: TokenKind,
}

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

/// Llama 2's file has 500 kB and 32,000 pieces.
const MAX_BYTES: u64 = 16 << 20;
const MAX_PIECES: usize = 1 << 18;
const MAX_PIECE_BYTES: usize = 1 << 10;
/// Scores of llama.cpp's converter: padding rows, and tokens added on top of the model.
const SCORE_PADDING: f32 = -10_000.0;
const SCORE_ADDED: f32 = -1_000.0;

/// sentencepiece_model.proto, the fields that are read.
#[derive(Clone, PartialEq, prost::Message)]
struct ModelProto {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<Piece>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Piece {
    #[prost(string, optional, tag = "1")]
    piece: Option<String>,
    #[prost(float, optional, tag = "2")]
    score: Option<f32>,
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
}

impl Tokenizer {
    /// Reads the vocabulary of the checkpoint in `dir`.
    ///
    /// # Errors
    /// [`Code::Tokenizer`] when the file is missing, damaged or not usable, [`Code::Json`] for the JSON files.
    pub fn read(dir: &Path, config: &Config, notes: &mut Vec<String>) -> Result<Self> {
        let path = dir.join("tokenizer.model");
        if !path.exists() {
            let what =
                if dir.join("tokenizer.json").exists() { "has only tokenizer.json" } else { "has no tokenizer.model" };
            let fix = "take tokenizer.model from the model's repository, or from its base model (Llama 2)";
            return Err(Error::new(Code::Tokenizer, dir, what, fix));
        }
        let pieces = read_pieces(&path)?;
        let rows = config.vocab_size as usize;
        if pieces.len() > rows {
            let what = format!("has {} pieces, more than the {rows} rows of the embedding (vocab_size)", pieces.len());
            return Err(Error::new(Code::Tokenizer, &path, what, "take the tokenizer.model of the same repository"));
        }
        let mut tokens = pieces;
        for id in tokens.len()..rows {
            tokens.push(Token { text: format!("[PAD{id}]"), score: SCORE_PADDING, kind: TokenKind::Unused });
        }
        add_tokens(dir, &mut tokens, notes)?;
        let settings_path = dir.join("tokenizer_config.json");
        let settings = json::read_optional(&settings_path)?.unwrap_or_default();
        decode_added(&settings_path, &settings, &mut tokens, notes)?;
        check_unique(&path, &tokens)?;

        let flag = |key: &str| settings.get(key).and_then(Value::as_bool);
        let special = |key: &str, usual: &str, said: Option<u32>, notes: &mut Vec<String>| -> Result<u32> {
            let text = settings.get(key).and_then(content).unwrap_or_else(|| usual.to_owned());
            let id =
                tokens.iter().position(|t| t.text == text).and_then(|id| u32::try_from(id).ok()).ok_or_else(|| {
                    Error::new(
                        Code::Tokenizer,
                        &path,
                        format!("has no {text}, the {key}"),
                        "take the tokenizer files of one repository",
                    )
                })?;
            if said.is_some_and(|said| said != id) {
                let said = said.unwrap_or_default();
                notes.push(format!(
                    "config.json says {key} is {said}; the vocabulary has {text} at {id}, which is written"
                ));
            }
            Ok(id)
        };
        let bos = special("bos_token", "<s>", config.bos_token_id, notes)?;
        let eos = special("eos_token", "</s>", config.eos_token_id, notes)?;
        Ok(Self {
            bos,
            eos,
            pad: config.pad_token_id.filter(|id| (*id as usize) < rows),
            add_bos: flag("add_bos_token"),
            add_eos: flag("add_eos_token"),
            add_space_prefix: flag("add_prefix_space"),
            tokens,
        })
    }
}

/// The pieces of tokenizer.model, each checked.
fn read_pieces(path: &Path) -> Result<Vec<Token>> {
    let (_, len) = super::open_regular(path)?;
    let bad =
        |what: String| Error::new(Code::Tokenizer, path, what, "download the file again (Llama 2's has 499,723 bytes)");
    if len > MAX_BYTES {
        return Err(bad(format!("has {len} bytes, more than {MAX_BYTES}")));
    }
    let bytes = std::fs::read(path).map_err(|err| Error::io(path, "read the vocabulary", &err))?;
    let model =
        ModelProto::decode(bytes.as_slice()).map_err(|err| bad(format!("is not a SentencePiece model: {err}")))?;
    if model.pieces.is_empty() || model.pieces.len() > MAX_PIECES {
        return Err(bad(format!("has {} pieces, expected 1 to {MAX_PIECES}", model.pieces.len())));
    }
    let mut tokens = Vec::with_capacity(model.pieces.len());
    for (id, piece) in model.pieces.into_iter().enumerate() {
        let text = piece.piece.unwrap_or_default();
        let kind = match piece.kind.unwrap_or(1) {
            1 => TokenKind::Normal,
            2 => TokenKind::Unknown,
            3 => TokenKind::Control,
            // llama.cpp's converter knows no user-defined pieces inside the model and keeps them as ordinary text
            4 => TokenKind::Normal,
            5 => TokenKind::Unused,
            6 => TokenKind::Byte,
            other => return Err(bad(format!("piece {id} has kind {other}, expected 1 to 6"))),
        };
        let score = piece.score.unwrap_or(0.0);
        if text.is_empty() || text.contains('\0') || text.len() > MAX_PIECE_BYTES || !score.is_finite() {
            return Err(bad(format!("piece {id} is empty, too long, has a NUL or no finite score")));
        }
        tokens.push(Token { text, score, kind });
    }
    let bytes = tokens.iter().filter(|t| t.kind == TokenKind::Byte).count();
    if bytes != 256 {
        return Err(bad(format!("has {bytes} of the 256 byte pieces; without them some text cannot be spelled")));
    }
    Ok(tokens)
}

/// added_tokens.json: text → id, put over the padding rows (tulu-1 and many derivatives have `<pad>` at 32000).
fn add_tokens(dir: &Path, tokens: &mut [Token], notes: &mut Vec<String>) -> Result<()> {
    let path = dir.join("added_tokens.json");
    let Some(json) = json::read_optional(&path)? else { return Ok(()) };
    for (text, id) in json {
        match id.as_u64().and_then(|id| usize::try_from(id).ok()) {
            Some(id) if id < tokens.len() => {
                tokens[id] = Token { text, score: SCORE_ADDED, kind: TokenKind::UserDefined };
            }
            Some(id) => notes.push(format!("added_tokens.json: '{text}' has id {id}, past the embedding; left out")),
            None => {
                return Err(Error::new(Code::Json, &path, format!("'{text}' has id {id}"), "download the file again"));
            }
        }
    }
    Ok(())
}

/// `added_tokens_decoder` of tokenizer_config.json: id → what the token is.
fn decode_added(
    path: &Path,
    settings: &Map<String, Value>,
    tokens: &mut [Token],
    notes: &mut Vec<String>,
) -> Result<()> {
    let Some(Value::Object(decoder)) = settings.get("added_tokens_decoder") else { return Ok(()) };
    for (id, token) in decoder {
        let (Ok(id), Some(text)) = (id.parse::<usize>(), token.get("content").and_then(Value::as_str)) else {
            let what = format!("added_tokens_decoder has a broken entry '{id}'");
            return Err(Error::new(Code::Json, path, what, "download the file again"));
        };
        if id >= tokens.len() {
            notes.push(format!("tokenizer_config.json: '{text}' has id {id}, past the embedding; left out"));
            continue;
        }
        let special = token.get("special").and_then(Value::as_bool).unwrap_or(false) || looks_special(text);
        tokens[id] = if special {
            Token { text: text.to_owned(), score: SCORE_ADDED, kind: TokenKind::Control }
        } else {
            Token { text: text.replace('\u{2581}', " "), score: SCORE_ADDED, kind: TokenKind::UserDefined }
        };
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

/// llama.cpp keeps texts in a map and aborts when two tokens share one.
fn check_unique(path: &Path, tokens: &[Token]) -> Result<()> {
    let mut seen = HashSet::new();
    match tokens.iter().position(|t| !seen.insert(t.text.as_str())) {
        None => Ok(()),
        Some(id) => {
            let what = format!("token {id} has the text '{}', which another token has", tokens[id].text.escape_debug());
            Err(Error::new(Code::Tokenizer, path, what, "take the tokenizer files of one repository"))
        }
    }
}

/// A special token is written as a string or as an object with `content`.
fn content(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value.get("content").and_then(Value::as_str)).map(str::to_owned)
}
