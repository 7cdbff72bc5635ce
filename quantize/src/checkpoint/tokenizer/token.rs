//! The plain data of a vocabulary: tokens, their types and scores, and what the metadata says of them.

use crate::gguf;

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

/// Scores of llama.cpp's converter: padding rows, and tokens added on top of the model.
pub(super) const SCORE_PADDING: f32 = -10_000.0;
pub(super) const SCORE_ADDED: f32 = -1_000.0;

/// Where a space is put before a text, so that its first word is the one that stands within a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PrefixSpace {
    /// Before every text between two special tokens: what llama.cpp and Transformers' `legacy` tokenizer do.
    Always,
    /// Only before a text that begins the prompt (`legacy: false`).
    First,
    /// Nowhere.
    Never,
}

/// Keys of the metadata that [`Tokenizer`] has no field for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TokenizerMetadata {
    /// Ids of further special tokens, which follow bos and eos.
    pub(crate) ids: Vec<(String, gguf::Value)>,
    /// Which special tokens are put around a text.
    pub(crate) adds: Vec<(String, gguf::Value)>,
    /// Further tokens that end an answer.
    pub(crate) ends: Vec<(String, gguf::Value)>,
    /// Under keys of our own.
    pub(crate) own: Vec<(String, gguf::Value)>,
}

/// The text of a token in a message: on one line, and no longer than a line.
pub(super) fn shown(text: &str) -> String {
    const MOST: usize = 80;
    let mut shown: String = text.escape_debug().take(MOST).collect();
    if text.escape_debug().nth(MOST).is_some() {
        shown.push('…');
    }
    shown
}
