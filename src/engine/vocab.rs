//! The vocabulary: converts text to tokens and back. `prompt/` decides which text may become special tokens.

use super::Token;
use crate::error::{Code, Failure};
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token_type::LlamaTokenAttr;
use llama_cpp_2::vocab::LlamaVocab;

/// Properties of tokens that our GGUF files have and that llama.cpp has no keys for.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    /// Tokens that end an answer, in addition to llama.cpp's.
    pub(super) ends: Vec<Token>,
    /// Where a space is inserted; `None`: before every text after a special token, as in llama.cpp. If it is set,
    /// llama.cpp inserts no spaces.
    pub(super) spaces: Option<Spaces>,
    /// Whether the file names BOS. If it does not, llama.cpp takes any token for it.
    pub(super) has_bos: bool,
    /// Whether prompts begin with BOS.
    pub(super) bos: Bos,
    /// The end token, if the file does not name EOS.
    pub(super) eos: Option<u32>,
}

impl Rules {
    /// Sets whether prompts begin with BOS.
    ///
    /// # Errors
    /// `USAGE` when it is on and the file names no BOS.
    pub(super) fn set_bos(&mut self, bos: Bos) -> Result<(), Failure> {
        if bos == Bos::On && !self.has_bos {
            let what = "--bos on needs a BOS token, and the file names none (tokenizer.ggml.bos_token_id)";
            return Err(Failure::input(Code::Usage, what, "leave --bos out"));
        }
        self.bos = bos;
        Ok(())
    }
}

/// Where the tokenizer inserts a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spaces {
    /// At the start of the prompt.
    First,
    /// Nowhere.
    Never,
}

/// Whether a prompt begins with BOS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Bos {
    /// If the file says so.
    #[default]
    Auto,
    /// Always.
    On,
    /// Only if the chat template writes it.
    Off,
}

impl Bos {
    /// Returns its name on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

/// The vocabulary of a loaded model.
#[derive(Debug)]
pub(crate) struct Vocab<'m>(LlamaVocab<'m>, &'m Rules, &'m LlamaModel);

impl<'m> Vocab<'m> {
    /// llama.cpp's vocabulary, with the properties from the file.
    pub(super) fn new(model: &'m LlamaModel, rules: &'m Rules) -> Self {
        Self(model.vocab(), rules, model)
    }

    /// The model that it belongs to.
    pub(super) fn model(&self) -> &'m LlamaModel {
        self.2
    }

    /// Where the tokenizer inserts a space, if llama.cpp does not do it.
    pub(crate) fn spaces(&self) -> Option<Spaces> {
        self.1.spaces
    }

    /// Returns the texts of user-defined tokens: they match anywhere in a text, before it is split.
    pub(crate) fn user_defined(&self) -> Vec<String> {
        let tokens = (0..self.len()).map(Token::new);
        let user_defined = tokens.filter(|token| self.0.attr(*token).contains(LlamaTokenAttr::UserDefined));
        user_defined.filter_map(|token| Some(self.0.text(token)?.to_str().ok()?.to_owned())).collect()
    }

    /// Returns the tokens of `text`. `add_special`: prepend BOS if the model wants it. `parse_special`: `</s>` in the
    /// text becomes the special token. `prompt/` rejects text of 2 GiB or more before this is called.
    pub(crate) fn tokenize(&self, text: &[u8], add_special: bool, parse_special: bool) -> Vec<Token> {
        self.0.tokenize(text, add_special, parse_special)
    }

    /// Returns the bytes of `token`; not always whole characters. Control tokens have none.
    pub(crate) fn piece(&self, token: Token) -> Vec<u8> {
        self.0.token_to_piece(token, false, None)
    }

    /// Like [`Vocab::piece`], but returns the name of a control token.
    pub(crate) fn shown(&self, token: Token) -> Vec<u8> {
        self.0.token_to_piece(token, true, None)
    }

    /// Returns whether `token` ends an answer: EOS, or another end-of-generation token.
    pub(crate) fn is_end(&self, token: Token) -> bool {
        self.0.is_eog(token) || self.1.ends.contains(&token)
    }

    /// Beginning of sequence, `<s>` or `<|begin_of_text|>`, if the model has it.
    pub(crate) fn bos(&self) -> Option<Token> {
        Some(self.0.bos()).filter(|bos| self.1.has_bos && (0..self.len()).contains(&bos.0))
    }

    /// End of sequence, `</s>`.
    pub(crate) fn eos(&self) -> Token {
        self.0.eos()
    }

    /// Returns the special tokens other than BOS and EOS, with their names in Transformers.
    pub(crate) fn named(&self) -> Vec<(&'static str, Token)> {
        let unknown = |token: &Token| self.0.attr(*token).intersects(LlamaTokenAttr::Unknown);
        let unknown = (0..self.len()).map(Token::new).find(unknown);
        let known = [("pad_token", self.0.pad()), ("sep_token", self.0.sep()), ("mask_token", self.0.mask())];
        let exists = |(_, token): &(&'static str, Token)| (0..self.len()).contains(&token.0);
        unknown.map(|token| ("unk_token", token)).into_iter().chain(known).filter(exists).collect()
    }

    /// BOS, if prompts begin with it.
    pub(crate) fn added_bos(&self) -> Option<Token> {
        self.bos().filter(|_| match self.1.bos {
            Bos::Auto => self.0.should_add_bos(),
            Bos::On => true,
            Bos::Off => false,
        })
    }

    /// Returns text and id of every control token, and of the unknown token.
    pub(crate) fn controls(&self) -> Vec<(String, Token)> {
        (0..self.len())
            .map(Token::new)
            .filter(|token| self.0.attr(*token).intersects(LlamaTokenAttr::Control | LlamaTokenAttr::Unknown))
            .filter_map(|token| Some((self.0.text(token)?.to_str().ok()?.to_owned(), token)))
            .collect()
    }

    /// Returns the bytes of the longest token.
    pub(crate) fn longest(&self) -> usize {
        (0..self.len()).map(|id| self.piece(Token::new(id)).len()).max().unwrap_or(0)
    }

    /// Returns the first token id that differs from `other`: another text, another meaning, or missing in one of them. The
    /// longer vocabulary may end with tokens without text: Tulu 3 has a padding token after the vocabulary of Llama 3.
    pub(crate) fn first_difference(&self, other: &Vocab<'_>) -> Option<Token> {
        let end = self.len().min(other.len());
        let differs =
            |token: &Token| self.shown(*token) != other.shown(*token) || self.0.attr(*token) != other.0.attr(*token);
        let longer = if self.len() > end { self } else { other };
        let has_text =
            |token: &Token| !longer.0.attr(*token).intersects(LlamaTokenAttr::Control | LlamaTokenAttr::Unused);
        let first = (0..end).map(Token::new).find(differs);
        first.or_else(|| (end..longer.len()).map(Token::new).find(has_text))
    }

    /// Vocabulary size.
    pub(crate) fn len(&self) -> i32 {
        self.0.n_tokens()
    }
}
