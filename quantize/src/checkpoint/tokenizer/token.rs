//! The plain data of a vocabulary: tokens, their types and scores, and their metadata.

use crate::gguf;
use std::borrow::Cow;

/// The type of a token. Its number is that of SentencePiece's protobuf and of `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum TokenKind {
    /// Ordinary text.
    Normal = 1,
    /// The unknown token.
    Unknown = 2,
    /// Special tokens, which only templates write: `<s>`, `</s>`.
    Control = 3,
    /// Text that is never split.
    UserDefined = 4,
    /// A row of the embedding without a text.
    Unused = 5,
    /// One byte, for text outside the vocabulary.
    Byte = 6,
}

/// One token of the vocabulary.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Text of the token; SentencePiece writes a space as U+2581.
    pub text: String,
    /// Log probability or negated merge rank: the higher score is merged first.
    pub score: f32,
    /// Type of the token.
    pub kind: TokenKind,
}

/// The algorithm that splits a text into tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// SentencePiece's BPE: the pair whose result has the highest score is merged first (`llama` in a GGUF).
    SentencePiece,
    /// Byte-level BPE: the text is split into words, then pairs are merged in the order of the list (`gpt2` in a GGUF).
    ByteLevelBpe {
        /// llama.cpp's name of the pre-tokenizer, such as `llama-bpe`.
        pre: Cow<'static, str>,
        /// Merges in their order, each `left right`.
        merges: Vec<String>,
    },
}

/// Scores of llama.cpp's converter: padding rows, and tokens added on top of the model.
pub(super) const SCORE_PADDING: f32 = -10_000.0;
pub(super) const SCORE_ADDED: f32 = -1_000.0;

/// Where the tokenizer puts a space before a text, so that the first word is tokenized like one within a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PrefixSpace {
    /// Before every text between two special tokens, like llama.cpp and Transformers' `legacy` tokenizer.
    Always,
    /// Only at the start of a prompt (`legacy: false`).
    First,
    /// Nowhere.
    Never,
}

/// Key-value pairs of the tokenizer that [`super::Tokenizer`] has no field for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TokenizerMetadata {
    /// Ids of special tokens other than bos and eos.
    pub(crate) ids: Vec<(String, gguf::Value)>,
    /// Which special tokens are added around a text.
    pub(crate) adds: Vec<(String, gguf::Value)>,
    /// Further tokens that end an answer.
    pub(crate) ends: Vec<(String, gguf::Value)>,
    /// Pairs under `tulu_quant.`.
    pub(crate) own: Vec<(String, gguf::Value)>,
}

/// Returns the text of a token for a message: escaped, on one line, truncated.
pub(super) fn display_text(text: &str) -> String {
    const MAX_CHARS: usize = 80;
    let mut shown: String = text.escape_debug().take(MAX_CHARS).collect();
    if text.escape_debug().nth(MAX_CHARS).is_some() {
        shown.push('…');
    }
    shown
}
