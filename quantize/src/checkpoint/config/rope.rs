//! Reads the base of the rotary embedding and rejects scaled or partial rotary embeddings. Transformers 4 and older
//! write `rope_theta` and `rope_scaling` as separate keys; Transformers 5 writes both into `rope_parameters`. All three
//! keys are read.

use super::fields::Fields;
use crate::error::Result;
use serde_json::{Map, Value};

/// The base when the file has none (Tulu 2 13B and 70B).
const DEFAULT_THETA: f32 = 10_000.0;
/// Objects in which Transformers writes the parameters.
const OBJECTS: [&str; 2] = ["rope_parameters", "rope_scaling"];

/// Returns the base of the rotary embedding. Any scaling is an error: a GGUF without it would be silently wrong.
pub(super) fn theta(fields: &Fields<'_>) -> Result<f32> {
    let mut found: Option<(String, f32)> = fields.positive("rope_theta")?.map(|theta| ("rope_theta".to_owned(), theta));
    for place in OBJECTS {
        let object = match fields.json.get(place) {
            None | Some(Value::Null) => continue,
            Some(Value::Object(object)) => object,
            Some(other) => return Err(fields.bad(format!("{place} is {other}, expected an object"))),
        };
        check_no_scaling(fields, place, object)?;
        let Some(theta) = fields.positive_in(object, "rope_theta")? else { continue };
        match &found {
            Some((first, other)) if *other != theta => {
                return Err(fields.bad(format!("{first} is {other}, rope_theta in {place} is {theta}")));
            }
            _ => found = Some((format!("rope_theta in {place}"), theta)),
        }
    }
    Ok(found.map_or(DEFAULT_THETA, |(_, theta)| theta))
}

fn check_no_scaling(fields: &Fields<'_>, place: &str, object: &Map<String, Value>) -> Result<()> {
    for key in ["rope_type", "type"] {
        match object.get(key) {
            None | Some(Value::Null) => {}
            Some(Value::String(kind)) if kind == "default" => {}
            Some(Value::String(kind)) => {
                return Err(
                    fields.bad(format!("{place} of type {kind} scales the rotary embedding, which is not supported"))
                );
            }
            Some(other) => return Err(fields.bad(format!("{key} in {place} is {other}, expected a name"))),
        }
    }
    match object.get("partial_rotary_factor") {
        None | Some(Value::Null) => {}
        Some(factor) if factor.as_f64() == Some(1.0) => {}
        Some(factor) => return Err(partial(fields, factor)),
    }
    let typed = ["rope_type", "type"].iter().any(|key| object.get(*key).is_some_and(|kind| !kind.is_null()));
    let plain = |key: &String| matches!(key.as_str(), "rope_theta" | "rope_type" | "type" | "partial_rotary_factor");
    match object.iter().find(|(key, value)| !plain(key) && !value.is_null()) {
        Some((key, _)) if !typed => {
            Err(fields.bad(format!("{place} has {key} without a rope_type, so its meaning is unknown")))
        }
        _ => Ok(()),
    }
}

/// The error for heads that are rotated only in part.
pub(super) fn partial(fields: &Fields<'_>, factor: &Value) -> crate::error::Error {
    fields.bad(format!("partial_rotary_factor is {factor}: partial rotary embeddings are not supported"))
}
