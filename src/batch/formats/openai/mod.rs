//! OpenAI batch lines: `/v1/chat/completions` and `/v1/completions`. This file parses the envelope, and `api/` the body;
//! `response` writes output lines.

mod response;

pub(in crate::batch) use response::{error_record, output_record};

use super::fields::parse_object;
use crate::api::{Body, Endpoint};
use crate::batch::record::{CodeAndMessage, Record, RecordError};
use serde_json::{Map, Value};

/// Parses one line.
pub(in crate::batch) fn parse(line: &[u8]) -> Result<Record, RecordError> {
    let fields = parse_object(line).map_err(|(code, message)| RecordError { id: None, code, message })?;
    let id = fields.get("custom_id").filter(|id| id.is_string()).cloned();
    record(fields).map_err(|(code, message)| RecordError { id, code, message })
}

fn record(mut fields: Map<String, Value>) -> Result<Record, CodeAndMessage> {
    let id = match fields.remove("custom_id") {
        Some(Value::String(id)) if !id.is_empty() => id,
        _ => return Err(("invalid_custom_id", "\"custom_id\" must be a string that is not empty".to_owned())),
    };
    if fields.get("method").is_some_and(|method| method != "POST") {
        return Err(("invalid_method", "\"method\" must be \"POST\"".to_owned()));
    }
    let Some(Value::Object(body)) = fields.remove("body") else {
        return Err(("invalid_body", "\"body\" must be an object".to_owned()));
    };
    let endpoint = fields.get("url").and_then(Value::as_str).and_then(Endpoint::from_path).ok_or_else(|| {
        let message = "\"url\" must be \"/v1/chat/completions\" or \"/v1/completions\"";
        ("invalid_url", message.to_owned())
    })?;
    let Body { model, prompts, options } = Body::parse(body, endpoint)?;
    let fields = Map::from_iter([("custom_id".to_owned(), Value::from(id.as_str()))]);
    Ok(Record { id: Some(id), model, prompts, turns: Vec::new(), options, fields })
}

#[cfg(test)]
mod tests;
