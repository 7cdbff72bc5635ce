//! Reads single fields of config.json: a number within bounds, a flag, a token id.

use crate::error::{Code, Error, Result};
use serde_json::{Map, Value};
use std::path::Path;

/// The fields of a JSON object, checked one by one; errors name the file.
pub(super) struct Fields<'a> {
    pub(super) path: &'a Path,
    pub(super) json: &'a Map<String, Value>,
}

impl Fields<'_> {
    pub(super) fn bad(&self, what: String) -> Error {
        Error::new(Code::Config, self.path, what, "compare with the model's config.json on the Hub")
    }

    pub(super) fn optional(&self, key: &str, min: u64, max: u64) -> Result<Option<u64>> {
        match self.json.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_u64() {
                Some(n) if (min..=max).contains(&n) => Ok(Some(n)),
                _ => Err(self.bad(format!("{key} is {value}, expected a whole number from {min} to {max}"))),
            },
        }
    }

    pub(super) fn number(&self, key: &str, min: u64, max: u64) -> Result<u64> {
        self.optional(key, min, max)?.ok_or_else(|| self.bad(format!("{key} is missing")))
    }

    pub(super) fn positive(&self, key: &str) -> Result<Option<f32>> {
        self.positive_in(self.json, key)
    }

    /// Like [`Self::positive`], for the nested object `json`.
    pub(super) fn positive_in(&self, json: &Map<String, Value>, key: &str) -> Result<Option<f32>> {
        match json.get(key) {
            None | Some(Value::Null) => Ok(None),
            #[allow(clippy::cast_possible_truncation, reason = "GGUF stores these as f32")]
            Some(value) => match value.as_f64().map(|x| x as f32) {
                Some(x) if x.is_finite() && x > 0.0 => Ok(Some(x)),
                _ => Err(self.bad(format!("{key} is {value}, expected a positive number"))),
            },
        }
    }

    /// Reads a token id; an invalid one counts as absent. The range is checked later, against the vocabulary.
    pub(super) fn token(&self, key: &str) -> Option<u32> {
        self.json.get(key).and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok())
    }

    /// Reads `true` or `false`; another value is an error.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.json.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(self.bad(format!("{key} is {other}, expected true or false"))),
        }
    }
}
