//! Collects the added tokens of a folder without tokenizer.model, with the ids that Transformers' fast tokenizer gives
//! them. The tokenizers library numbers them itself; a file in which they have other ids is refused, because no text
//! would get those ids.

use super::bpe_model::BpeModel;
use super::special_tokens::content;
use super::token::display_text;
use super::tokenizer_json::TokenizerJson;
use crate::error::{Code, Error, Result};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::path::Path;

/// An added token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AddedToken {
    pub(super) id: u32,
    pub(super) text: String,
    /// Whether the files mark it as special.
    pub(super) special: bool,
    /// Whether spaces around it are removed, or it counts only as a whole word, which a GGUF cannot store.
    pub(super) strips: bool,
}

/// The keys of tokenizer_config.json that name special tokens; Transformers adds those that the vocabulary does not
/// have.
const NAMED: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
const LISTS: [&str; 2] = ["additional_special_tokens", "extra_special_tokens"];

/// The tokens so far.
struct Numbering<'a> {
    model: HashMap<&'a str, u32>,
    added: Vec<AddedToken>,
    by_text: HashMap<String, usize>,
}

impl Numbering<'_> {
    /// Returns the id that the tokenizers library gives to `text`: the known one, else the next free one.
    fn id_of(&self, text: &str) -> u32 {
        if let Some(id) = self.model.get(text) {
            return *id;
        }
        let size = u32::try_from(self.model.len()).unwrap_or(u32::MAX);
        match (self.by_text.get(text).and_then(|at| self.added.get(*at)), self.added.iter().map(|t| t.id).max()) {
            (Some(known), _) => known.id,
            (None, Some(last)) if last >= size => last.saturating_add(1),
            _ => size,
        }
    }

    /// Adds a token, or changes the properties of a known one.
    fn add(&mut self, token: AddedToken) {
        match self.by_text.get(&token.text).and_then(|at| self.added.get_mut(*at)) {
            Some(known) => *known = token,
            None => {
                self.by_text.insert(token.text.clone(), self.added.len());
                self.added.push(token);
            }
        }
    }

    /// Adds a token that the file `path` has at `id`.
    fn add_at(&mut self, path: &Path, id: u64, mut token: AddedToken) -> Result<()> {
        token.id = self.id_of(&token.text);
        if u64::from(token.id) != id {
            let what = format!(
                "has the added token '{}' at {id}, but a tokenizer gives it the id {}",
                display_text(&token.text),
                token.id
            );
            let fix = "take the tokenizer files of one repository, or save the tokenizer again with Transformers";
            return Err(Error::new(Code::Tokenizer, path, what, fix));
        }
        self.add(token);
        Ok(())
    }
}

/// Returns the added tokens: those of tokenizer.json, then those of `added_tokens_decoder` in tokenizer_config.json
/// (`settings`, read from `settings_path`), then special tokens that only their name there makes known (`named`).
pub(super) fn collect(
    json: &TokenizerJson,
    model: &BpeModel,
    (settings_path, settings): (&Path, &Map<String, Value>),
    named: &Map<String, Value>,
) -> Result<Vec<AddedToken>> {
    let mut all = Numbering { model: model.ids(), added: Vec::new(), by_text: HashMap::new() };
    for token in json.added_tokens().iter().filter(|token| !token.content.is_empty()) {
        check_text(json.path(), &token.content)?;
        let strips = token.lstrip || token.rstrip || token.single_word;
        let added = AddedToken { id: 0, text: token.content.clone(), special: token.special, strips };
        all.add_at(json.path(), token.id, added)?;
    }
    if let Some(Value::Object(decoder)) = settings.get("added_tokens_decoder") {
        let mut entries = Vec::new();
        for (id, token) in decoder {
            let (Ok(id), Some(text)) = (id.parse::<u64>(), content(token)) else {
                let what = format!("added_tokens_decoder has an invalid entry '{}'", display_text(id));
                return Err(Error::new(Code::Json, settings_path, what, "download the file again"));
            };
            let flag = |key: &str| token.get(key).and_then(Value::as_bool).unwrap_or(false);
            let strips = ["lstrip", "rstrip", "single_word"].into_iter().any(flag);
            entries.push((id, AddedToken { id: 0, text, special: flag("special"), strips }));
        }
        entries.sort_by_key(|(id, _)| *id);
        for (id, token) in entries.into_iter().filter(|(_, token)| !token.text.is_empty()) {
            check_text(settings_path, &token.text)?;
            all.add_at(settings_path, id, token)?;
        }
    }
    let lists = LISTS.iter().filter_map(|key| named.get(*key)?.as_array()).flatten();
    let texts: Vec<String> = NAMED.iter().filter_map(|key| named.get(*key)).chain(lists).filter_map(content).collect();
    for text in texts.into_iter().filter(|text| !text.is_empty()) {
        check_text(settings_path, &text)?;
        // Transformers makes a token of the model special too, but leaves its properties where it is an added one.
        if !all.by_text.contains_key(&text) {
            all.add(AddedToken { id: all.id_of(&text), text, special: true, strips: false });
        }
    }
    Ok(all.added)
}

fn check_text(path: &Path, text: &str) -> Result<()> {
    if text.contains('\0') {
        let what = format!("has the added token '{}', which contains a NUL", display_text(text));
        return Err(Error::new(Code::Tokenizer, path, what, "a GGUF cannot store it"));
    }
    Ok(())
}
