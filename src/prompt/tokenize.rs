//! Text → ids over llama.cpp's tokenizer. Which text is a control token is decided by `render`; here text is only text.

use super::template::SpecialTokensMap;
use crate::engine::{Spaces, Token, Vocab};
use crate::error::{Code, Failure};

/// Said when a prompt that was rendered elsewhere has its BOS already.
pub(super) const DOUBLE_BOS: &str = "a prompt begins with BOS already and gets another one, as in Transformers and vLLM; \
                                \"add_special_tokens\": false leaves it out";

/// A control token as a template writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SpecialToken {
    /// Its characters, such as `</s>`.
    pub(crate) text: String,
    /// Its id.
    pub(crate) id: Token,
}

/// A stretch of a rendered prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    /// Plain text, tokenized on its own.
    Text(String),
    /// A control token that the template wrote.
    Special(Token),
    /// Ids that the model generated earlier.
    Generated(Vec<Token>),
}

/// A model's vocabulary.
pub(crate) struct Tokenizer<'m> {
    vocab: Vocab<'m>,
    special: Vec<SpecialToken>,
    /// Bytes of the longest segment.
    longest: usize,
    /// Tokenizer that end the text before them, so that it gets no space; read only where the model has its own rule for it.
    user_defined: Vec<String>,
}

impl<'m> Tokenizer<'m> {
    /// Reads the control tokens of `vocab`.
    pub(crate) fn new(vocab: Vocab<'m>) -> Self {
        let mut special: Vec<SpecialToken> = vocab
            .controls()
            .into_iter()
            .map(|(text, id)| SpecialToken { text, id })
            .filter(|c| !c.text.is_empty())
            .collect();
        // The longest match wins, as in llama.cpp and Transformers.
        special.sort_by_key(|token| std::cmp::Reverse(token.text.len()));
        let names = special.iter().map(|token| token.text.len()).max().unwrap_or(0);
        let longest = vocab.longest().max(names).max(1);
        let user_defined = vocab.spaces().map(|_| vocab.user_defined()).unwrap_or_default();
        Self { vocab, special, longest, user_defined }
    }

    /// Tokenizer that a text of so many bytes has at least.
    pub(crate) fn min_tokens(&self, bytes: usize) -> usize {
        bytes.div_ceil(self.longest)
    }

    /// The control tokens, longest text first.
    pub(crate) fn special_tokens(&self) -> &[SpecialToken] {
        &self.special
    }

    /// The texts that templates know by name; a token the vocabulary lacks is an empty text.
    pub(crate) fn special_tokens_map(&self) -> SpecialTokensMap {
        let text = |id| self.special.iter().find(|c| c.id == id).map(|c| c.text.clone()).unwrap_or_default();
        let named = self.vocab.named();
        let others: Vec<(&'static str, String)> =
            named.iter().map(|(name, id)| (*name, text(*id))).filter(|(_, text)| !text.is_empty()).collect();
        let known: Vec<Token> = named.iter().map(|(_, id)| *id).chain([self.vocab.bos(), self.vocab.eos()]).collect();
        let mut additional: Vec<&SpecialToken> = self.special.iter().filter(|c| !known.contains(&c.id)).collect();
        additional.sort_by_key(|token| token.id);
        SpecialTokensMap {
            bos: text(self.vocab.bos()),
            eos: text(self.vocab.eos()),
            others,
            additional: additional.into_iter().map(|token| token.text.clone()).collect(),
        }
    }

    /// The ids of `segments`, with BOS in front when the vocabulary asks for one and none is written. Each text starts
    /// afresh, with the space that SentencePiece puts before a text: llama.cpp and Transformers' legacy tokenizer do the
    /// same after a control token. The tokenizer of `legacy: false` puts one only before a text that begins the prompt.
    pub(crate) fn encode(&self, segments: &[Segment]) -> Result<Vec<Token>, Failure> {
        let bos = self.vocab.bos();
        let mut ids = Vec::new();
        if self.vocab.adds_bos() && segments.first() != Some(&Segment::Special(bos)) {
            ids.push(bos);
        }
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

    /// Whether the text that begins a prompt gets a space before it here, because llama.cpp was told to put none. As
    /// Transformers' `Metaspace` of the scheme `first`: not where there is one, nor before an added token.
    fn begins_with_space(&self, text: &str) -> bool {
        self.vocab.spaces() == Some(Spaces::First)
            && !text.is_empty()
            && !text.starts_with([' ', '\u{2581}'])
            && !self.user_defined.iter().any(|token| text.starts_with(token.as_str()))
    }

    /// A text in which control tokens count as such. BOS comes before it when `add_bos` says so and the vocabulary asks for one,
    /// also where one is written: so do Transformers, vLLM and llama-server.
    pub(crate) fn encode_rendered(&self, text: &str, add_bos: bool) -> Result<Vec<Token>, Failure> {
        check_length(text)?;
        let mut ids = Vec::new();
        if add_bos && self.vocab.adds_bos() {
            ids.push(self.vocab.bos());
        }
        let control = self.special.iter().any(|token| text.starts_with(&token.text));
        let space = if !control && self.begins_with_space(text) { " " } else { "" };
        ids.extend(self.vocab.tokenize(format!("{space}{text}").as_bytes(), false, true));
        Ok(ids)
    }

    /// Whether `ids` begin with two BOS.
    pub(crate) fn has_double_bos(&self, ids: &[Token]) -> bool {
        ids.len() > 1 && ids[..2].iter().all(|id| *id == self.vocab.bos())
    }

    /// Ids as they are; llama.cpp would end the process at one that the vocabulary lacks.
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

    /// Plain text. llama.cpp does not look for control tokens here, but its merges could still arrive at one where a
    /// vocabulary happens to hold both halves (`</` and `s>`); Llama's does not, so that is checked and not mended.
    fn encode_text(&self, text: &str, ids: &mut Vec<Token>) -> Result<(), Failure> {
        check_length(text)?;
        let start = ids.len();
        ids.extend(self.vocab.tokenize(text.as_bytes(), false, false));
        match ids[start..].iter().find(|id| self.special.iter().any(|token| token.id == **id)) {
            None => Ok(()),
            Some(id) => Err(Failure::input(
                Code::ControlInText,
                format!("plain text became the control token {id} in this model's vocabulary"),
                "take the characters of that token out of the text",
            )),
        }
    }
}

/// llama.cpp counts bytes in 32 bits.
fn check_length(text: &str) -> Result<(), Failure> {
    match i32::try_from(text.len()) {
        Ok(_) => Ok(()),
        Err(_) => Err(Failure::input(Code::TextTooLong, "a text of more than 2 GiB", "shorten it")),
    }
}
