//! Reads tokenizer.json: added tokens, the special tokens around a text, where a space is put before it, and its model
//! if that is needed.

use super::bpe_model::BpeModel;
use super::token::PrefixSpace;
use crate::checkpoint::json;
use crate::error::{Code, Error, Result};
use crate::files::read_if_exists;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The parts of tokenizer.json that are used, without the model.
#[derive(Debug)]
pub(super) struct TokenizerJson {
    path: PathBuf,
    added_tokens: Vec<Added>,
    normalizer: Value,
    pre_tokenizer: Value,
    post_processor: Value,
}

#[derive(Debug, serde::Deserialize)]
struct File<M> {
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    model: Option<M>,
}

/// An entry of `added_tokens`.
#[derive(Clone, Debug, serde::Deserialize)]
pub(super) struct Added {
    pub(super) id: u64,
    pub(super) content: String,
    #[serde(default)]
    pub(super) special: bool,
    #[serde(default)]
    pub(super) lstrip: bool,
    #[serde(default)]
    pub(super) rstrip: bool,
    #[serde(default)]
    pub(super) single_word: bool,
}

impl TokenizerJson {
    /// Reads the file in the folder `dir` without its model; `None` when it does not exist.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>> {
        read_if_exists(&dir.join("tokenizer.json"), |path| Ok(Self::parse::<IgnoredAny>(path)?.0))
    }

    /// Reads and checks the file with its model.
    pub(super) fn read_with_model(dir: &Path) -> Result<(Self, BpeModel)> {
        let path = dir.join("tokenizer.json");
        let (json, model) = Self::parse::<BpeModel>(&path)?;
        let model = model.unwrap_or_default();
        let fix = "download the file again, or convert the model with llama.cpp's convert_hf_to_gguf.py";
        model.check().map_err(|what| Error::new(Code::Tokenizer, &path, what, fix))?;
        Ok((json, model))
    }

    fn parse<M: DeserializeOwned>(path: &Path) -> Result<(Self, Option<M>)> {
        let File { added_tokens, normalizer, pre_tokenizer, post_processor, model } = json::read_as::<File<M>>(path)?;
        let json = Self { path: path.to_owned(), added_tokens, normalizer, pre_tokenizer, post_processor };
        Ok((json, model))
    }

    /// Returns the path of the file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn added_tokens(&self) -> &[Added] {
        &self.added_tokens
    }

    pub(super) fn normalizer(&self) -> &Value {
        &self.normalizer
    }

    pub(super) fn pre_tokenizer(&self) -> &Value {
        &self.pre_tokenizer
    }

    /// Returns the id of the added token `text`.
    pub(super) fn id(&self, text: &str) -> Option<u32> {
        let found = self.added_tokens.iter().find(|token| token.content == text)?;
        u32::try_from(found.id).ok()
    }

    /// Returns where a space is put before a text, if the file defines it.
    pub(super) fn prefix_space(&self) -> Option<PrefixSpace> {
        let parts = |value: &Value, list: &str| match value.get(list) {
            Some(Value::Array(parts)) => parts.clone(),
            _ => vec![value.clone()],
        };
        let is = |part: &Value, kind: &str| part.get("type").and_then(Value::as_str) == Some(kind);
        if self.normalizer.is_null() && self.pre_tokenizer.is_null() {
            return None;
        }
        if parts(&self.normalizer, "normalizers").iter().any(|part| is(part, "Prepend")) {
            return Some(PrefixSpace::Always);
        }
        let splitters = parts(&self.pre_tokenizer, "pretokenizers");
        let scheme = splitters.iter().find(|part| is(part, "Metaspace")).map(|part| {
            match part.get("prepend_scheme").and_then(Value::as_str) {
                Some("first") => PrefixSpace::First,
                Some("never") => PrefixSpace::Never,
                None if part.get("add_prefix_space") == Some(&Value::Bool(false)) => PrefixSpace::Never,
                _ => PrefixSpace::Always,
            }
        });
        Some(scheme.unwrap_or(PrefixSpace::Never))
    }

    /// Returns the special token that the post-processor puts before a text.
    pub(super) fn first_special(&self) -> Option<String> {
        let processors = match self.post_processor.get("processors") {
            Some(Value::Array(all)) => all.as_slice(),
            _ => std::slice::from_ref(&self.post_processor),
        };
        let first =
            |part: &Value| Some(part.get("single")?.get(0)?.get("SpecialToken")?.get("id")?.as_str()?.to_owned());
        processors.iter().find_map(first)
    }

    /// Returns which of the special tokens `bos`, `eos` and `sep` are added around a text, read from
    /// `TemplateProcessing` like gguf-py's `SpecialVocab`. The arguments are the texts of the tokens.
    pub(super) fn added_around(&self, bos: &str, eos: &str) -> Vec<(&'static str, bool)> {
        let mut adds: Vec<(&'static str, bool)> = Vec::new();
        let processors = match self.post_processor.get("processors") {
            Some(Value::Array(all)) => all.clone(),
            _ => vec![self.post_processor.clone()],
        };
        let special = |part: Option<&Value>| Some(part?.get("SpecialToken")?.get("id")?.as_str()?.to_owned());
        let sequence = |part: Option<&Value>| Some(part?.get("Sequence")?.get("id")?.as_str()?.to_owned());
        let is = |part: &Value, kind: &str| part.get("type").and_then(Value::as_str) == Some(kind);
        for processor in &processors {
            if is(processor, "ByteLevel") {
                let unset = ["bos", "eos"].into_iter().filter(|kind| !adds.iter().any(|(known, _)| known == kind));
                let unset: Vec<_> = unset.map(|kind| (kind, false)).collect();
                adds.extend(unset);
            }
            if !is(processor, "TemplateProcessing") {
                continue;
            }
            let list = |key: &str| processor.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
            let (single, mut pair) = (list("single"), list("pair"));
            let (mut first, mut last) = (None, None);
            if single.len() > 1 {
                first = special(single.first());
                last = special(single.last());
                adds.extend(first.iter().map(|text| ("bos", text == bos)));
                adds.extend(last.iter().map(|text| ("eos", text == eos)));
            }
            if first.is_some() && special(pair.first()) == first {
                pair.remove(0);
            }
            if last.is_some() && special(pair.last()) == last {
                pair.pop();
            }
            let ends = [sequence(pair.first()), sequence(pair.last())];
            if let ([Some(a), Some(b)], [_, middle @ .., _]) = (&ends, pair.as_slice())
                && (a.as_str(), b.as_str()) == ("A", "B")
                && !middle.is_empty()
            {
                let separates = |part: Option<&Value>| special(part).is_some_and(|text| text == eos);
                let one = separates(middle.first()) && last.is_none();
                let two = middle.len() == 2 && separates(middle.get(1));
                adds.push(("sep", one || two));
            }
        }
        adds
    }
}
