//! Tokenizes with llama.cpp's tokenizer. `render.rs` decides which text is a special token; message text never is.

use super::template::SpecialTokensMap;
use crate::engine::{Grammar, Spaces, Token, Vocab};
use crate::error::{Code, Failure};
use std::collections::HashSet;

/// Notice when a prompt that was rendered elsewhere has BOS already.
pub(super) const DOUBLE_BOS: &str = "a prompt begins with BOS already and gets another one, as in Transformers and vLLM; \
                                \"add_special_tokens\": false leaves it out";

/// A special token: a token of llama.cpp's type CONTROL or UNKNOWN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SpecialToken {
    /// Its text, such as `</s>`.
    pub(crate) text: String,
    /// Its id.
    pub(crate) id: Token,
}

/// A segment of a rendered prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    /// Plain text, tokenized on its own.
    Text(String),
    /// A special token that the template wrote.
    Special(Token),
    /// Ids that the model generated earlier.
    Generated(Vec<Token>),
}

/// The tokenizer of a model.
pub(crate) struct Tokenizer<'m> {
    vocab: Vocab<'m>,
    special: Vec<SpecialToken>,
    /// Their ids.
    special_ids: HashSet<Token>,
    /// Bytes of the longest token.
    longest: usize,
    /// User-defined tokens: a text that begins with one gets no space. Filled only if the vocabulary has its own rule
    /// for spaces.
    user_defined: Vec<String>,
}

impl<'m> Tokenizer<'m> {
    /// Creates a tokenizer with the special tokens of `vocab`.
    pub(crate) fn new(vocab: Vocab<'m>) -> Self {
        let mut special: Vec<SpecialToken> = vocab
            .controls()
            .into_iter()
            .map(|(text, id)| SpecialToken { text, id })
            .filter(|c| !c.text.is_empty())
            .collect();
        // The longest match is taken, as in llama.cpp and Transformers.
        special.sort_by_key(|token| std::cmp::Reverse(token.text.len()));
        let names = special.iter().map(|token| token.text.len()).max().unwrap_or(0);
        let longest = vocab.longest().max(names).max(1);
        let user_defined = vocab.spaces().map(|_| vocab.user_defined()).unwrap_or_default();
        let special_ids = special.iter().map(|token| token.id).collect();
        Self { vocab, special, special_ids, longest, user_defined }
    }

    /// Returns a lower bound on the number of tokens of a text with `bytes` bytes.
    pub(crate) fn min_tokens(&self, bytes: usize) -> usize {
        bytes.div_ceil(self.longest)
    }

    /// Returns the special tokens, longest text first.
    pub(crate) fn special_tokens(&self) -> &[SpecialToken] {
        &self.special
    }

    /// Returns the special tokens by the names that templates use; the text of a missing one is empty.
    pub(crate) fn special_tokens_map(&self) -> SpecialTokensMap {
        let text = |id| self.special.iter().find(|c| c.id == id).map(|c| c.text.clone()).unwrap_or_default();
        let named = self.vocab.named();
        let others: Vec<(&'static str, String)> =
            named.iter().map(|(name, id)| (*name, text(*id))).filter(|(_, text)| !text.is_empty()).collect();
        let eos = Some(self.vocab.eos());
        let known: Vec<Token> = named.iter().map(|(_, id)| *id).chain(self.vocab.bos()).chain(eos).collect();
        let mut additional: Vec<&SpecialToken> = self.special.iter().filter(|c| !known.contains(&c.id)).collect();
        additional.sort_by_key(|token| token.id);
        SpecialTokensMap {
            bos: self.vocab.bos().map(text).unwrap_or_default(),
            eos: text(self.vocab.eos()),
            others,
            additional: additional.into_iter().map(|token| token.text.clone()).collect(),
        }
    }

    /// Tokenizes `segments`. Adds BOS in front if the vocabulary asks for it and the template did not write it. Each
    /// text is tokenized alone, with the space that SentencePiece adds in front; llama.cpp and Transformers' legacy
    /// tokenizer do the same after a special token. A tokenizer with `legacy: false` adds a space only to a text at the
    /// start of the prompt.
    pub(crate) fn encode(&self, segments: &[Segment]) -> Result<Vec<Token>, Failure> {
        let mut ids = Vec::new();
        ids.extend(self.vocab.added_bos().filter(|bos| segments.first() != Some(&Segment::Special(*bos))));
        for (i, segment) in segments.iter().enumerate() {
            match segment {
                Segment::Text(text) if i == 0 && self.begins_with_space(text) => {
                    self.encode_text(&format!(" {text}"), &mut ids)?;
                }
                Segment::Text(text) => self.encode_text(text, &mut ids)?,
                Segment::Special(id) => ids.push(*id),
                Segment::Generated(known) => ids.extend_from_slice(known),
            }
        }
        Ok(ids)
    }

    /// Returns whether a space is added here to the first text of a prompt, because llama.cpp was told to add none. As
    /// in Transformers' `Metaspace` with the scheme `first`, no space is added to a text that begins with a space or an
    /// added token.
    fn begins_with_space(&self, text: &str) -> bool {
        self.vocab.spaces() == Some(Spaces::First)
            && !text.is_empty()
            && !text.starts_with([' ', '\u{2581}'])
            && !self.user_defined.iter().any(|token| text.starts_with(token.as_str()))
    }

    /// Tokenizes a text in which the texts of special tokens become special tokens. Adds BOS if `add_bos` is set and
    /// the vocabulary asks for it, even if the text begins with BOS, as Transformers, vLLM and llama-server do.
    pub(crate) fn encode_rendered(&self, text: &str, add_bos: bool) -> Result<Vec<Token>, Failure> {
        check_length(text)?;
        let mut ids = Vec::new();
        ids.extend(self.vocab.added_bos().filter(|_| add_bos));
        let control = self.special.iter().any(|token| text.starts_with(&token.text));
        let space = if !control && self.begins_with_space(text) { " " } else { "" };
        ids.extend(self.vocab.tokenize(format!("{space}{text}").as_bytes(), false, true));
        Ok(ids)
    }

    /// Tokenizes a plain text, with the space that belongs to the start of a prompt.
    pub(crate) fn encode_plain(&self, text: &str, add_bos: bool) -> Result<Vec<Token>, Failure> {
        let mut ids: Vec<Token> = self.vocab.added_bos().filter(|_| add_bos).into_iter().collect();
        let space = if self.begins_with_space(text) { " " } else { "" };
        self.encode_text(&format!("{space}{text}"), &mut ids)?;
        Ok(ids)
    }

    /// Compiles a grammar for the vocabulary.
    pub(crate) fn grammar(&self, text: &str) -> Result<Grammar, Failure> {
        Grammar::new(&self.vocab, text)
    }

    /// Returns whether `ids` begin with two BOS.
    pub(crate) fn has_double_bos(&self, ids: &[Token]) -> bool {
        ids.len() > 1 && ids[..2].iter().all(|id| Some(*id) == self.vocab.bos())
    }

    /// Checks ids, because llama.cpp aborts the process for an id outside the vocabulary.
    ///
    /// # Errors
    /// `TOKEN_ID`.
    pub(crate) fn check_ids(&self, ids: &[Token]) -> Result<Vec<Token>, Failure> {
        let n = self.vocab.len();
        match ids.iter().find(|id| !(0..n).contains(&id.0)) {
            None => Ok(ids.to_owned()),
            Some(id) => {
                let what = format!("the prompt has the token id {}, and the vocabulary has {n} tokens", id.0);
                Err(Failure::input(Code::TokenId, what, "give ids of this model's tokenizer"))
            }
        }
    }

    /// Tokenizes plain text. llama.cpp does not parse special tokens here, but its merges could still produce one if a
    /// vocabulary has both halves (`</` and `s>`). Llama's vocabulary does not, so such a token is an error.
    fn encode_text(&self, text: &str, ids: &mut Vec<Token>) -> Result<(), Failure> {
        check_length(text)?;
        let start = ids.len();
        ids.extend(self.vocab.tokenize(text.as_bytes(), false, false));
        match ids[start..].iter().find(|id| self.special_ids.contains(id)) {
            None => Ok(()),
            Some(id) => Err(Failure::input(
                Code::ControlInText,
                format!("plain text became the special token {id} in this model's vocabulary"),
                "remove the characters of that token from the text",
            )),
        }
    }
}

/// Checks the length of a text, because llama.cpp counts bytes in 32 bits.
fn check_length(text: &str) -> Result<(), Failure> {
    match i32::try_from(text.len()) {
        Ok(_) => Ok(()),
        Err(_) => Err(Failure::input(Code::TextTooLong, "a text is longer than 2 GiB", "shorten it")),
    }
}
