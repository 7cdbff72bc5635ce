//! Calls and their results in the messages of a request, as text: Tulu knows neither.

use crate::api::refusal::Refusal;
use crate::grammar::{BETWEEN_CALLS, CALL_AFTER_ARGUMENTS, CALL_BEFORE_ARGUMENTS, CALL_BEFORE_NAME, CALL_MARKER};
use serde_json::{Map, Value};

/// Replaces the calls of an assistant's message by their text, as the model wrote it, and the message of a tool by one of
/// the user. The content is a text already. Returns whether the message was one of a tool.
pub(in crate::api) fn render_message(message: &mut Map<String, Value>) -> Result<bool, Refusal> {
    let role = message.get("role").and_then(Value::as_str).unwrap_or_default();
    match role {
        "assistant" => {
            let calls = message.shift_remove("tool_calls").unwrap_or_default();
            let calls = match &calls {
                Value::Null => &[],
                Value::Array(calls) => calls.as_slice(),
                _ => return Err(invalid("\"tool_calls\" must be an array")),
            };
            if !calls.is_empty() {
                let mut text = message.get("content").and_then(Value::as_str).unwrap_or_default().to_owned();
                if !text.is_empty() && !text.ends_with('\n') {
                    text.push('\n');
                }
                let calls: Result<Vec<String>, Refusal> = calls.iter().map(call).collect();
                text.push_str(&calls?.join(BETWEEN_CALLS));
                message.insert("content".to_owned(), text.into());
            }
            Ok(false)
        }
        "tool" => {
            if message.get("tool_call_id").is_some_and(|id| !id.is_string() && !id.is_null()) {
                return Err(invalid("\"tool_call_id\" must be a string"));
            }
            message.shift_remove("tool_call_id");
            let text = message.get("content").and_then(Value::as_str);
            let text = text.ok_or_else(|| invalid("the \"content\" of a tool must be a text"))?;
            let text = format!("<tool_response>\n{text}\n</tool_response>");
            message.insert("content".to_owned(), text.into());
            message.insert("role".to_owned(), "user".into());
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Returns the text of a call. Arguments are a text in OpenAI's API, and an object in ollama's.
fn call(call: &Value) -> Result<String, Refusal> {
    if call["type"].as_str().is_some_and(|kind| kind != "function") {
        return Err(invalid("a call must have the type \"function\""));
    }
    let function = &call["function"];
    let name = function["name"].as_str().ok_or_else(|| invalid("a call needs \"function\": {\"name\": …}"))?;
    let name = Value::from(name).to_string();
    let name = name.trim_matches('"');
    let arguments = match &function["arguments"] {
        Value::String(text) if text.trim().is_empty() => "{}".to_owned(),
        Value::String(text) => text.clone(),
        Value::Null => "{}".to_owned(),
        given @ Value::Object(_) => given.to_string(),
        _ => return Err(invalid("the \"arguments\" of a call must be a text")),
    };
    Ok(format!("{CALL_MARKER}{CALL_BEFORE_NAME}{name}{CALL_BEFORE_ARGUMENTS}{arguments}{CALL_AFTER_ARGUMENTS}"))
}

fn invalid(why: &str) -> Refusal {
    Refusal::new("invalid_messages", "messages", why)
}
