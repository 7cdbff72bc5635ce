//! OpenAI batch lines: `/v1/chat/completions` and `/v1/completions`. This file parses the envelope and the prompts;
//! `params` parses the parameters, `response` writes output lines. Unsupported fields that would change the answer are
//! refused.

mod params;
mod response;

pub(in crate::batch) use response::{error_record, output_record};

use super::fields::parse_object;
use crate::batch::record::{CodeAndMessage, PromptInput, Record, RecordError};
use crate::engine::Token;
use crate::prompt::conversation;
use serde_json::{Map, Value};

/// Maximum completions of one record.
const MAX_CHOICES: usize = 1024;

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
    let Some(Value::Object(mut body)) = fields.remove("body") else {
        return Err(("invalid_body", "\"body\" must be an object".to_owned()));
    };
    let model = body.get("model").and_then(Value::as_str).map(str::to_owned);
    let (prompts, options) = match fields.get("url").and_then(Value::as_str) {
        Some("/v1/chat/completions") => {
            let messages = body.remove("messages").ok_or(("missing_messages", "\"messages\" is missing".to_owned()))?;
            let messages = conversation(&normalize(messages)?).map_err(|why| ("invalid_messages", why))?;
            (vec![PromptInput::Chat(messages)], params::read(body, true)?)
        }
        Some("/v1/completions") => {
            let prompt = body.remove("prompt").ok_or(("missing_prompt", "\"prompt\" is missing".to_owned()))?;
            (prompt_list(prompt)?, params::read(body, false)?)
        }
        _ => {
            let message = "\"url\" must be \"/v1/chat/completions\" or \"/v1/completions\"";
            return Err(("invalid_url", message.to_owned()));
        }
    };
    if prompts.len() * options.n.unwrap_or(1) as usize > MAX_CHOICES {
        return Err(("invalid_parameter", format!("more than {MAX_CHOICES} answers are asked for")));
    }
    let fields = Map::from_iter([("custom_id".to_owned(), Value::from(id.as_str()))]);
    Ok(Record { id: Some(id), model, prompts, turns: Vec::new(), options, fields })
}

/// Parses a text, token ids, or several of either, as OpenAI's API and vLLM accept them.
fn prompt_list(prompt: Value) -> Result<Vec<PromptInput>, CodeAndMessage> {
    let list = match prompt {
        Value::Array(list) if !list.iter().any(Value::is_number) => list,
        one => vec![one],
    };
    let prompts: Option<Vec<PromptInput>> = list.into_iter().map(prompt_input).collect();
    prompts.filter(|prompts| !prompts.is_empty()).ok_or_else(|| {
        let message = "\"prompt\" must be a string, an array of token ids, or an array of such";
        ("invalid_prompt", message.to_owned())
    })
}

fn prompt_input(value: Value) -> Option<PromptInput> {
    match value {
        Value::String(text) => Some(PromptInput::Text(text)),
        Value::Array(ids) if !ids.is_empty() => {
            let id = |id: &Value| id.as_i64().and_then(|id| i32::try_from(id).ok()).map(Token::new);
            ids.iter().map(id).collect::<Option<Vec<Token>>>().map(PromptInput::Ids)
        }
        _ => None,
    }
}

/// Normalizes messages: content parts are joined by newlines, as in vLLM; the role `developer` becomes `system`; `name`
/// is ignored, as in vLLM, because Tulu's format cannot contain it; the content of an assistant message without content
/// (some exporters write them) becomes empty.
fn normalize(mut messages: Value) -> Result<Value, CodeAndMessage> {
    for message in messages.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        if message.get("role").is_some_and(|role| role == "developer") {
            message.insert("role".to_owned(), "system".into());
        }
        if message.get("name").is_some_and(Value::is_string) {
            message.shift_remove("name");
        }
        let answer = message.get("role").is_some_and(|role| role == "assistant");
        if answer && message.get("content").is_none_or(Value::is_null) {
            message.insert("content".to_owned(), "".into());
        }
        let Some(Value::Array(parts)) = message.get("content") else { continue };
        let texts: Option<Vec<&str>> = parts
            .iter()
            .map(|part| if part["type"] == "text" { part["text"].as_str() } else { part.as_str() })
            .collect();
        let joined = texts
            .ok_or_else(|| ("unsupported_content", "only parts of the type \"text\" can be read".to_owned()))?
            .join("\n");
        message.insert("content".to_owned(), joined.into());
    }
    Ok(messages)
}

#[cfg(test)]
mod tests;
