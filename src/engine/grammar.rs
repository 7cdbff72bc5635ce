//! A grammar that the tokens of an answer must follow: llama.cpp's grammar sampler. Grammars are checked before
//! (`grammar/gbnf.rs`), because llama.cpp would print one that it cannot read.

use super::Token;
use super::vocab::Vocab;
use crate::error::{Code, Failure};
use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;
use std::sync::Arc;

/// A grammar, and how much of it the answer has followed.
#[derive(Clone, Debug)]
pub(crate) struct Grammar {
    sampler: LlamaSampler,
    /// Special tokens that do not end an answer: they have no text, so no grammar may contain them.
    banned: Arc<[Token]>,
    end: Token,
}

impl Grammar {
    /// Compiles `text`, whose rule `root` is the whole answer.
    ///
    /// # Errors
    /// `GRAMMAR`.
    pub(crate) fn new(vocab: &Vocab<'_>, text: &str) -> Result<Self, Failure> {
        let sampler = LlamaSampler::grammar(vocab.model(), text, "root")
            .map_err(|_| Failure::input(Code::Grammar, "llama.cpp cannot read the grammar", "simplify the grammar"))?;
        let controls = vocab.controls().into_iter().map(|(_, token)| token);
        Ok(Self { sampler, banned: controls.filter(|token| !vocab.is_end(*token)).collect(), end: vocab.eos() })
    }

    /// The token that ends an answer.
    pub(super) fn end(&self) -> Token {
        self.end
    }

    /// Whether the answer may continue with `token`.
    pub(super) fn allows(&mut self, token: Token) -> bool {
        let mut one = LlamaTokenDataArray::new(vec![LlamaTokenData::new(token, 0.0, 0.0)], false);
        self.mask(&mut one);
        one.data.first().is_some_and(|data| data.logit() > f32::NEG_INFINITY)
    }

    /// Sets the logits of tokens with which the answer may not continue to minus infinity.
    pub(super) fn mask(&mut self, tokens: &mut LlamaTokenDataArray) {
        // In a list of the whole vocabulary, a token is at the place of its id.
        let whole = tokens.data.len() > 1 && tokens.data.iter().zip(0..).all(|(data, id)| data.id().0 == id);
        for token in self.banned.iter() {
            let found = match whole {
                true => tokens.data.get_mut(usize::try_from(token.0).unwrap_or(usize::MAX)),
                false => tokens.data.iter_mut().find(|data| data.id() == *token),
            };
            if let Some(data) = found {
                data.set_logit(f32::NEG_INFINITY);
            }
        }
        self.sampler.apply(tokens);
    }

    /// Appends `token`, which must be allowed. Returns false if llama.cpp does not accept it; the grammar can then not be
    /// used any more.
    pub(super) fn accept(&mut self, token: Token) -> bool {
        self.sampler.try_accept(token).is_ok()
    }
}
