//! The rotary embedding: its base, and that nothing scales or shortens it. Transformers up to 4 writes `rope_theta` beside
//! `rope_scaling`; from 5 on it writes both into `rope_parameters`. All places are looked at, whichever wrote the file.

use super::fields::Fields;
use crate::error::Result;
use serde_json::{Map, Value};

/// What the file means where it does not say (Tulu 2 13B and 70B).
const DEFAULT_THETA: f32 = 10_000.0;
/// Where Transformers keeps the numbers.
const PLACES: [&str; 2] = ["rope_parameters", "rope_scaling"];

/// The base of the rotary embedding. A scaling of any kind is refused: a GGUF that ignores one is silently wrong.
pub(super) fn theta(read: &Fields<'_>) -> Result<f32> {
    let mut said: Option<(String, f32)> = read.positive("rope_theta")?.map(|theta| ("rope_theta".to_owned(), theta));
    for place in PLACES {
        let object = match read.json.get(place) {
            None | Some(Value::Null) => continue,
            Some(Value::Object(object)) => object,
            Some(other) => return Err(read.bad(format!("{place} is {other}, expected an object"))),
        };
        no_scaling(read, place, object)?;
        let Some(theta) = read.positive_in(object, "rope_theta")? else { continue };
        match &said {
            Some((first, other)) if *other != theta => {
                return Err(read.bad(format!("{first} is {other}, rope_theta in {place} is {theta}")));
            }
            _ => said = Some((format!("rope_theta in {place}"), theta)),
        }
    }
    Ok(said.map_or(DEFAULT_THETA, |(_, theta)| theta))
}

fn no_scaling(read: &Fields<'_>, place: &str, object: &Map<String, Value>) -> Result<()> {
    for key in ["rope_type", "type"] {
        match object.get(key) {
            None | Some(Value::Null) => {}
            Some(Value::String(kind)) if kind == "default" => {}
            Some(Value::String(kind)) => {
                return Err(
                    read.bad(format!("{place} of type {kind} scales the rotary embedding, which is not supported"))
                );
            }
            Some(other) => return Err(read.bad(format!("{key} in {place} is {other}, expected a name"))),
        }
    }
    match object.get("partial_rotary_factor") {
        None | Some(Value::Null) => {}
        Some(factor) if factor.as_f64() == Some(1.0) => {}
        Some(factor) => return Err(partial(read, factor)),
    }
    let typed = ["rope_type", "type"].iter().any(|key| object.get(*key).is_some_and(|kind| !kind.is_null()));
    let plain = |key: &String| matches!(key.as_str(), "rope_theta" | "rope_type" | "type" | "partial_rotary_factor");
    match object.iter().find(|(key, value)| !plain(key) && !value.is_null()) {
        Some((key, _)) if !typed => {
            Err(read.bad(format!("{place} has {key} without a rope_type, so what it scales cannot be told")))
        }
        _ => Ok(()),
    }
}

/// Only a part of each head would be rotated.
pub(super) fn partial(read: &Fields<'_>, factor: &Value) -> crate::error::Error {
    read.bad(format!("partial_rotary_factor is {factor}: heads that are rotated in part are not supported"))
}
