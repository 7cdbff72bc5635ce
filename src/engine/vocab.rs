//! The vocabulary: text to tokens and back. Which text may become control tokens is decided by `prompt/`.

use super::Token;
use llama_cpp_2::token_type::LlamaTokenAttr;
use llama_cpp_2::vocab::LlamaVocab;

/// What a GGUF made here says of its tokens that llama.cpp's own keys cannot say.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    /// Tokens that end an answer besides llama.cpp's.
    pub(super) ends: Vec<Token>,
    /// Where a space goes before a text, when that is not before every text after a special token. llama.cpp is then told
    /// to put none.
    pub(super) spaces: Option<Spaces>,
}

/// Where a space is put before a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spaces {
    /// Before a text that begins the prompt.
    First,
    /// Nowhere.
    Never,
}

/// The vocabulary of a loaded model.
#[derive(Debug)]
pub(crate) struct Vocab<'m>(LlamaVocab<'m>, &'m Rules);

impl<'m> Vocab<'m> {
    /// llama.cpp's vocabulary with what the file says besides.
    pub(super) fn new(vocab: LlamaVocab<'m>, rules: &'m Rules) -> Self {
        Self(vocab, rules)
    }

    /// Where this model's tokenizer puts a space, when llama.cpp puts none.
    pub(crate) fn spaces(&self) -> Option<Spaces> {
        self.1.spaces
    }

    /// Texts of the tokens that are found in any text, however it would be split.
    pub(crate) fn user_defined(&self) -> Vec<String> {
        let tokens = (0..self.len()).map(Token::new);
        let user_defined = tokens.filter(|token| self.0.attr(*token).contains(LlamaTokenAttr::UserDefined));
        user_defined.filter_map(|token| Some(self.0.text(token)?.to_str().ok()?.to_owned())).collect()
    }

    /// Tokens of `text`. `add_special` puts BOS in front where the model wants it; `parse_special` lets `</s>` in the
    /// text become the control token. `prompt/` refuses text of 2 GiB and more before this is called.
    pub(crate) fn tokenize(&self, text: &[u8], add_special: bool, parse_special: bool) -> Vec<Token> {
        self.0.tokenize(text, add_special, parse_special)
    }

    /// The bytes that `token` stands for; not always whole characters. Control tokens stand for nothing.
    pub(crate) fn piece(&self, token: Token) -> Vec<u8> {
        self.0.token_to_piece(token, false, None)
    }

    /// The bytes that `token` is shown as: as [`Vocab::piece`], and a control token by its name.
    pub(crate) fn shown(&self, token: Token) -> Vec<u8> {
        self.0.token_to_piece(token, true, None)
    }

    /// Whether `token` ends an answer: EOS, or another end-of-generation token.
    pub(crate) fn is_end(&self, token: Token) -> bool {
        self.0.is_eog(token) || self.1.ends.contains(&token)
    }

    /// Beginning of sequence, `<s>`.
    pub(crate) fn bos(&self) -> Token {
        self.0.bos()
    }

    /// End of sequence, `</s>`.
    pub(crate) fn eos(&self) -> Token {
        self.0.eos()
    }

    /// The special tokens beside BOS and EOS, under the names that Transformers gives them.
    pub(crate) fn named(&self) -> Vec<(&'static str, Token)> {
        let unknown = |token: &Token| self.0.attr(*token).intersects(LlamaTokenAttr::Unknown);
        let unknown = (0..self.len()).map(Token::new).find(unknown);
        let known = [("pad_token", self.0.pad()), ("sep_token", self.0.sep()), ("mask_token", self.0.mask())];
        let exists = |(_, token): &(&'static str, Token)| (0..self.len()).contains(&token.0);
        unknown.map(|token| ("unk_token", token)).into_iter().chain(known).filter(exists).collect()
    }

    /// Whether every prompt begins with BOS.
    pub(crate) fn adds_bos(&self) -> bool {
        self.0.should_add_bos()
    }

    /// Text and id of every control token, and of the unknown token.
    pub(crate) fn controls(&self) -> Vec<(String, Token)> {
        (0..self.len())
            .map(Token::new)
            .filter(|token| self.0.attr(*token).intersects(LlamaTokenAttr::Control | LlamaTokenAttr::Unknown))
            .filter_map(|token| Some((self.0.text(token)?.to_str().ok()?.to_owned(), token)))
            .collect()
    }

    /// Bytes of the longest piece; no token stands for more.
    pub(crate) fn longest(&self) -> usize {
        (0..self.len()).map(|id| self.piece(Token::new(id)).len()).max().unwrap_or(0)
    }

    /// Number of tokens.
    pub(crate) fn len(&self) -> i32 {
        self.0.n_tokens()
    }
}
