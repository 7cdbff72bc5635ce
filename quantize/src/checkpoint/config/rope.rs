//! Reads the rotary embedding: its base, and its scaling to a longer context. Transformers 4 and older write
//! `rope_theta` and `rope_scaling` as separate keys; Transformers 5 writes both into `rope_parameters`. All three keys
//! are read. A scaling that a GGUF cannot store is an error, because the converted model would be silently wrong.

use super::fields::Fields;
use crate::error::{Error, Result};
use serde_json::{Map, Value};

/// The base when the file has none (Tulu 2 13B and 70B).
const DEFAULT_THETA: f32 = 10_000.0;
/// Objects in which Transformers writes the parameters.
const OBJECTS: [&str; 2] = ["rope_parameters", "rope_scaling"];

/// How the rotary embedding is scaled to a longer context. Names and meaning of the numbers are those of config.json.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    #[default]
    None,
    /// All positions are divided by `factor`.
    #[allow(missing_docs, reason = "the names are Transformers'")]
    Linear { factor: f32 },
    /// YaRN (arXiv 2309.00071). `None` is the default of Transformers and llama.cpp.
    #[allow(missing_docs, reason = "the names are Transformers'")]
    Yarn {
        factor: f32,
        original_context: u32,
        extrapolation_factor: Option<f32>,
        attention_factor: Option<f32>,
        beta_fast: Option<f32>,
        beta_slow: Option<f32>,
    },
    /// Llama 3.1: low frequencies are divided by `factor`, high ones stay, those between are interpolated.
    #[allow(missing_docs, reason = "the names are Transformers'")]
    Llama3 { factor: f32, low_freq_factor: f32, high_freq_factor: f32, original_context: u32 },
}

/// The keys that each type may have, besides those that every type may have.
const LLAMA_3: [&str; 4] = ["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"];
const YARN: [&str; 8] = [
    "factor",
    "original_max_position_embeddings",
    "extrapolation_factor",
    "attention_factor",
    "attn_factor",
    "beta_fast",
    "beta_slow",
    "finetuned",
];
const COMMON: [&str; 4] = ["rope_theta", "rope_type", "type", "partial_rotary_factor"];

/// Returns the base and the scaling of the rotary embedding. `context` is `max_position_embeddings`.
pub(super) fn read(fields: &Fields<'_>, context: u32) -> Result<(f32, RopeScaling)> {
    let mut theta: Option<(String, f32)> = fields.positive("rope_theta")?.map(|theta| ("rope_theta".to_owned(), theta));
    let mut scaling: Option<(&str, RopeScaling)> = None;
    for place in OBJECTS {
        let object = match fields.json.get(place) {
            None | Some(Value::Null) => continue,
            Some(Value::Object(object)) => object,
            Some(other) => return Err(fields.bad(format!("{place} is {other}, expected an object"))),
        };
        let found = Reader { fields, place, object }.scaling(context)?;
        match scaling {
            Some((first, other)) if other != found => {
                return Err(fields.bad(format!("{first} and {place} scale the rotary embedding differently")));
            }
            _ => scaling = Some((place, found)),
        }
        let Some(named) = fields.positive_in(object, "rope_theta")? else { continue };
        match &theta {
            Some((first, other)) if *other != named => {
                return Err(fields.bad(format!("{first} is {other}, rope_theta in {place} is {named}")));
            }
            _ => theta = Some((format!("rope_theta in {place}"), named)),
        }
    }
    let scaling = scaling.map_or(RopeScaling::None, |(_, scaling)| scaling);
    Ok((theta.map_or(DEFAULT_THETA, |(_, theta)| theta), scaling))
}

/// Reads one of the objects.
struct Reader<'a> {
    fields: &'a Fields<'a>,
    place: &'static str,
    object: &'a Map<String, Value>,
}

impl Reader<'_> {
    fn scaling(&self, context: u32) -> Result<RopeScaling> {
        match self.object.get("partial_rotary_factor") {
            None | Some(Value::Null) => {}
            Some(factor) if factor.as_f64() == Some(1.0) => {}
            Some(factor) => return Err(partial(self.fields, factor)),
        }
        match self.kind()?.as_deref() {
            None => self.allow(&[]).map(|()| RopeScaling::None),
            // Transformers reads nothing else from an object of this type
            Some("default") => Ok(RopeScaling::None),
            Some("linear") => {
                self.allow(&["factor"])?;
                Ok(RopeScaling::Linear { factor: self.number("factor")? })
            }
            Some("yarn") => self.yarn(context),
            Some("llama3") => self.llama3(),
            Some(other) => {
                let place = self.place;
                Err(self
                    .fields
                    .bad(format!("{place} of type {other} scales the rotary embedding, which a GGUF cannot store")))
            }
        }
    }

    /// Returns the type, in lower case.
    fn kind(&self) -> Result<Option<String>> {
        let named = |key: &str| match self.object.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(kind)) => Ok(Some(kind.to_ascii_lowercase())),
            Some(other) => Err(self.fields.bad(format!("{key} in {} is {other}, expected a name", self.place))),
        };
        match (named("rope_type")?, named("type")?) {
            (Some(a), Some(b)) if a != b => {
                Err(self.fields.bad(format!("{} has rope_type {a} and type {b}", self.place)))
            }
            (a, b) => Ok(a.or(b)),
        }
    }

    fn yarn(&self, context: u32) -> Result<RopeScaling> {
        self.allow(&YARN)?;
        let attention_factor = self.optional("attention_factor")?;
        Ok(RopeScaling::Yarn {
            factor: self.number("factor")?,
            original_context: self.original_context()?.unwrap_or(context),
            extrapolation_factor: self.optional("extrapolation_factor")?,
            attention_factor: attention_factor.map_or_else(|| self.optional("attn_factor"), |x| Ok(Some(x)))?,
            beta_fast: self.optional("beta_fast")?,
            beta_slow: self.optional("beta_slow")?,
        })
    }

    fn llama3(&self) -> Result<RopeScaling> {
        self.allow(&LLAMA_3)?;
        let (low_freq_factor, high_freq_factor) = (self.number("low_freq_factor")?, self.number("high_freq_factor")?);
        if high_freq_factor <= low_freq_factor {
            let what = format!("high_freq_factor {high_freq_factor} is not above low_freq_factor {low_freq_factor}");
            return Err(self.fields.bad(format!("{what} in {}", self.place)));
        }
        let original_context = self.original_context()?;
        let missing = || self.fields.bad(format!("original_max_position_embeddings is missing in {}", self.place));
        Ok(RopeScaling::Llama3 {
            factor: self.number("factor")?,
            low_freq_factor,
            high_freq_factor,
            original_context: original_context.ok_or_else(missing)?,
        })
    }

    /// Rejects keys other than `known`: their meaning is unknown, or a GGUF has no key for them.
    fn allow(&self, known: &[&str]) -> Result<()> {
        let is_known = |key: &str| COMMON.contains(&key) || known.contains(&key);
        match self.object.iter().find(|(key, value)| !is_known(key) && !value.is_null()) {
            None => Ok(()),
            Some((key, _)) if self.kind()?.is_none() => {
                let place = self.place;
                Err(self.fields.bad(format!("{place} has {key} without a rope_type, so its meaning is unknown")))
            }
            Some((key, value)) => {
                Err(self.fields.bad(format!("{} has {key} {value}, which a GGUF cannot store", self.place)))
            }
        }
    }

    fn number(&self, key: &str) -> Result<f32> {
        self.optional(key)?.ok_or_else(|| self.fields.bad(format!("{key} is missing in {}", self.place)))
    }

    fn optional(&self, key: &str) -> Result<Option<f32>> {
        self.fields.positive_in(self.object, key)
    }

    /// Reads the context that the model had before the scaling; the key is in the object or beside it.
    fn original_context(&self) -> Result<Option<u32>> {
        const KEY: &str = "original_max_position_embeddings";
        const MAX: u64 = 1 << 30;
        let inner = Fields { path: self.fields.path, json: self.object }.optional(KEY, 1, MAX)?;
        let found = inner.map_or_else(|| self.fields.optional(KEY, 1, MAX), |n| Ok(Some(n)))?;
        Ok(found.and_then(|n| u32::try_from(n).ok()))
    }
}

/// The error for heads that are rotated only in part.
pub(super) fn partial(fields: &Fields<'_>, factor: &Value) -> Error {
    fields.bad(format!("partial_rotary_factor is {factor}: partial rotary embeddings are not supported"))
}
