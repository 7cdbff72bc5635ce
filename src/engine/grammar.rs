//! A grammar that the tokens of an answer must follow: llama.cpp's grammar sampler. Grammars are checked before
//! (`grammar/gbnf.rs`), because llama.cpp would print one that it cannot read. It accepts bytes that are not UTF-8, which
//! are refused here.

use super::Token;
use super::vocab::Vocab;
use crate::error::{Code, Failure};
use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;
use std::collections::HashMap;
use std::sync::Arc;

/// Tokens of a vocabulary that a grammar treats in a special way. Finding them takes some time, so a vocabulary does it
/// once.
#[derive(Debug)]
pub(crate) struct GrammarTokens {
    /// The bytes of tokens that are not whole characters. `None`: special tokens that do not end an answer; they have no
    /// text, so no grammar may contain them.
    special: HashMap<Token, Option<Vec<u8>>>,
    end: Token,
}

impl GrammarTokens {
    /// Finds the tokens of `vocab`.
    pub(crate) fn new(vocab: &Vocab<'_>) -> Self {
        let pieces = (0..vocab.len()).map(Token::new).map(|token| (token, vocab.piece(token)));
        let fragments = pieces.filter(|(_, piece)| std::str::from_utf8(piece).is_err());
        let mut special: HashMap<Token, Option<Vec<u8>>> =
            fragments.map(|(token, piece)| (token, Some(piece))).collect();
        let controls = vocab.controls().into_iter().map(|(_, token)| token);
        special.extend(controls.filter(|token| !vocab.is_end(*token)).map(|token| (token, None)));
        Self { special, end: vocab.eos() }
    }
}

/// A grammar, and how much of it the answer has followed.
#[derive(Clone, Debug)]
pub(crate) struct Grammar {
    sampler: LlamaSampler,
    tokens: Arc<GrammarTokens>,
    /// The bytes of a character that is not complete.
    pending: Vec<u8>,
}

impl Grammar {
    /// Compiles `text`, whose rule `root` is the whole answer.
    ///
    /// # Errors
    /// `GRAMMAR`.
    pub(crate) fn new(vocab: &Vocab<'_>, tokens: Arc<GrammarTokens>, text: &str) -> Result<Self, Failure> {
        let sampler = LlamaSampler::grammar(vocab.model(), text, "root")
            .map_err(|_| Failure::input(Code::Grammar, "llama.cpp cannot read the grammar", "simplify the grammar"))?;
        Ok(Self { sampler, tokens, pending: Vec::new() })
    }

    /// The token that ends an answer.
    pub(super) fn end(&self) -> Token {
        self.tokens.end
    }

    /// Whether the answer may continue with `token`.
    pub(super) fn allows(&mut self, token: Token) -> bool {
        let mut one = LlamaTokenDataArray::new(vec![LlamaTokenData::new(token, 0.0, 0.0)], false);
        self.mask(&mut one);
        one.data.first().is_some_and(|data| data.logit() > f32::NEG_INFINITY)
    }

    /// Sets the logits of tokens with which the answer may not continue to minus infinity.
    pub(super) fn mask(&mut self, all: &mut LlamaTokenDataArray) {
        for data in &mut all.data {
            let allowed = match self.tokens.special.get(&data.id()) {
                Some(Some(bytes)) => after(&self.pending, bytes).is_some(),
                Some(None) => false,
                None => self.pending.is_empty(),
            };
            if !allowed {
                data.set_logit(f32::NEG_INFINITY);
            }
        }
        self.sampler.apply(all);
    }

    /// Appends `token`, which must be allowed. Returns false if llama.cpp does not accept it; the grammar can then not be
    /// used any more.
    pub(super) fn accept(&mut self, token: Token) -> bool {
        let special = self.tokens.special.get(&token).and_then(Option::as_deref);
        let bytes = special.unwrap_or_default();
        self.pending = after(&self.pending, bytes).unwrap_or_default();
        self.sampler.try_accept(token).is_ok()
    }
}

/// Returns the bytes at the end of `pending` and `bytes` that are the beginning of a character; `None` if they are not
/// UTF-8.
fn after(pending: &[u8], bytes: &[u8]) -> Option<Vec<u8>> {
    let all = [pending, bytes].concat();
    match std::str::from_utf8(&all) {
        Ok(_) => Some(Vec::new()),
        Err(err) if err.error_len().is_none() => Some(all[err.valid_up_to()..].to_vec()),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::after;

    #[test]
    fn bytes_must_be_the_beginning_of_a_character() {
        assert_eq!(after(b"", b"a"), Some(vec![]));
        assert_eq!(after(b"", b"a\xe2\x82"), Some(b"\xe2\x82".to_vec()));
        assert_eq!(after(b"\xe2\x82", b"\xac"), Some(vec![]));
        assert_eq!(after(b"\xe2\x82", b"\xacz\xf0"), Some(b"\xf0".to_vec()));
        for (pending, bytes) in [(&b""[..], &b"\x80"[..]), (b"", b"\xff"), (b"\xe2", b"a"), (b"\xe2\x82", b"\xe2")] {
            assert_eq!(after(pending, bytes), None, "{pending:?} {bytes:?}");
        }
    }
}
