//! The `model` of a tokenizer.json: a vocabulary and merges (byte pair encoding). Only its structure is checked here;
//! `byte_level` and `byte_fallback` make tokens of it.

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::collections::HashMap;
use std::fmt;

/// Limits far above every published vocabulary (Llama 3: 128,000 tokens, 280,147 merges).
const MAX_TOKENS: usize = 1 << 20;
const MAX_MERGES: usize = 1 << 23;
const MAX_TOKEN_BYTES: usize = 4 << 10;

/// The model of a tokenizer.json, as Hugging Face's tokenizers library writes it.
#[derive(Debug, Default, Deserialize)]
pub(super) struct BpeModel {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    vocab: Vocab,
    /// Pairs in the order in which they are merged.
    #[serde(default)]
    pub(super) merges: Vec<Merge>,
    /// Whether a word that is a token is never split, even if no sequence of merges makes it. Absent in old files.
    #[serde(default)]
    pub(super) ignore_merges: Option<bool>,
    #[serde(default)]
    byte_fallback: Option<bool>,
    #[serde(default)]
    dropout: Option<f64>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
    #[serde(default)]
    end_of_word_suffix: Option<String>,
}

impl BpeModel {
    /// Whether a character outside the vocabulary becomes the tokens `<0x00>` to `<0xFF>` of its bytes.
    pub(super) fn has_byte_fallback(&self) -> bool {
        self.byte_fallback == Some(true)
    }

    /// Returns the tokens and their ids, in file order.
    pub(super) fn vocab(&self) -> &[(String, u32)] {
        &self.vocab.0
    }

    /// Checks what every loader needs: the algorithm, unique ids, and merges of known tokens. The text of an error is a
    /// predicate whose subject is the file.
    pub(super) fn check(&self) -> Result<(), String> {
        match self.kind.as_deref() {
            Some("BPE") => {}
            None if !self.merges.is_empty() => {}
            Some(other) => return Err(format!("has a model of type {other}; only BPE is supported")),
            None => return Err("has no BPE model".to_owned()),
        }
        if self.dropout.is_some_and(|p| p != 0.0) {
            return Err("has a dropout, which makes the tokens of a text random".to_owned());
        }
        for (key, affix) in [
            ("continuing_subword_prefix", &self.continuing_subword_prefix),
            ("end_of_word_suffix", &self.end_of_word_suffix),
        ] {
            if let Some(affix) = affix.as_deref().filter(|affix| !affix.is_empty()) {
                return Err(format!("has {key} '{}', which a GGUF cannot store", affix.escape_debug()));
            }
        }
        let vocab = self.vocab();
        if vocab.is_empty() || vocab.len() > MAX_TOKENS || self.merges.len() > MAX_MERGES {
            return Err(format!("has {} tokens and {} merges", vocab.len(), self.merges.len()));
        }
        if let Some((text, id)) = vocab.iter().find(|(text, _)| text.is_empty() || text.contains('\0')) {
            return Err(format!("has token '{}' at {id}, which is empty or contains a NUL", text.escape_debug()));
        }
        let mut by_id = HashMap::with_capacity(vocab.len());
        for (text, id) in vocab {
            if let Some(other) = by_id.insert(*id, text) {
                let [a, b] = [other, text].map(|text| text.escape_debug());
                return Err(format!("has the id {id} for two tokens, '{a}' and '{b}'"));
            }
        }
        let ids = self.ids();
        for (i, merge) in self.merges.iter().enumerate() {
            let known = |text: &str| ids.contains_key(text);
            if !known(&merge.left) || !known(&merge.right) || !known(&merge.joined()) {
                let [a, b] = [&merge.left, &merge.right].map(|text| text.escape_debug());
                return Err(format!("merge {i} joins '{a}' and '{b}', and one of them or the result is no token"));
            }
        }
        Ok(())
    }

    /// Returns the id of each token.
    pub(super) fn ids(&self) -> HashMap<&str, u32> {
        self.vocab().iter().map(|(text, id)| (text.as_str(), *id)).collect()
    }
}

/// A pair of tokens that are merged into one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Merge {
    pub(super) left: String,
    pub(super) right: String,
}

impl Merge {
    /// Returns the text of the merged token.
    pub(super) fn joined(&self) -> String {
        [self.left.as_str(), &self.right].concat()
    }
}

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(MergeVisitor)
    }
}

/// Reads `"a b"`, as tokenizers before 0.20 wrote it, and `["a", "b"]`.
struct MergeVisitor;

impl<'de> Visitor<'de> for MergeVisitor {
    type Value = Merge;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a merge of two tokens")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Merge, E> {
        match text.split_once(' ') {
            Some((left, right)) if !left.is_empty() && !right.is_empty() && !right.contains(' ') => {
                Ok(Merge { left: left.to_owned(), right: right.to_owned() })
            }
            _ => Err(E::custom(format!("merge '{}' does not name two tokens", text.escape_debug()))),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Merge, A::Error> {
        let pair = (seq.next_element()?, seq.next_element()?, seq.next_element::<IgnoredAny>()?);
        let (Some(left), Some(right), None) = pair else {
            return Err(A::Error::custom("a merge is not a pair of tokens"));
        };
        Ok(Merge { left, right })
    }
}

/// Tokens and ids in file order. A list, which other models have, counts as empty; [`BpeModel::check`] names the type.
#[derive(Debug, Default)]
struct Vocab(Vec<(String, u32)>);

impl<'de> Deserialize<'de> for Vocab {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(VocabVisitor)
    }
}

struct VocabVisitor;

impl<'de> Visitor<'de> for VocabVisitor {
    type Value = Vocab;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tokens and ids")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vocab, A::Error> {
        let (mut all, mut seen) = (Vec::new(), std::collections::HashSet::new());
        while let Some((text, id)) = map.next_entry::<String, u32>()? {
            if all.len() >= MAX_TOKENS || text.len() > MAX_TOKEN_BYTES {
                return Err(A::Error::custom("the vocabulary has too many tokens, or too long ones"));
            }
            if !seen.insert(text.clone()) {
                return Err(A::Error::custom(format!("token '{}' appears twice", text.escape_debug())));
            }
            all.push((text, id));
        }
        Ok(Vocab(all))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vocab, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Vocab::default())
    }
}
