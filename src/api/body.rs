//! The body of a request: its prompts and its parameters (`params.rs`). Unsupported fields that would change the answer
//! are refused.

use super::options::RequestOptions;
use super::params;
use super::prompt_input::PromptInput;
use super::refusal::Refusal;
use crate::engine::Token;
use crate::prompt::{Message, conversation};
use serde_json::{Map, Value};

/// Maximum completions of one request.
const MAX_CHOICES: usize = 1024;

/// An endpoint that generates text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Text,
}

impl Endpoint {
    /// Returns the endpoint at `path`.
    pub(crate) fn from_path(path: &str) -> Option<Self> {
        match path {
            "/v1/chat/completions" => Some(Self::Chat),
            "/v1/completions" => Some(Self::Text),
            _ => None,
        }
    }
}

/// A parsed body.
#[derive(Debug, PartialEq)]
pub(crate) struct Body {
    /// The requested model.
    pub(crate) model: Option<String>,
    /// The prompts; at least one.
    pub(crate) prompts: Vec<PromptInput>,
    /// Parameters.
    pub(crate) options: RequestOptions,
}

impl Body {
    /// Parses the fields of a body.
    pub(crate) fn parse(mut fields: Map<String, Value>, endpoint: Endpoint) -> Result<Self, Refusal> {
        let model = fields.get("model").and_then(Value::as_str).map(str::to_owned);
        let (prompts, options) = match endpoint {
            Endpoint::Chat => {
                let messages = chat_messages(&mut fields)?;
                (vec![PromptInput::Chat(messages)], params::read(fields, true)?)
            }
            Endpoint::Text => {
                let prompt =
                    fields.remove("prompt").ok_or_else(|| Refusal::of("missing_prompt", "prompt", "is missing"))?;
                (prompt_list(prompt)?, params::read(fields, false)?)
            }
        };
        if prompts.len() * options.n.unwrap_or(1) as usize > MAX_CHOICES {
            let message = format!("more than {MAX_CHOICES} answers are asked for");
            return Err(Refusal::new("invalid_parameter", "n", message));
        }
        Ok(Self { model, prompts, options })
    }
}

/// Takes the messages out of a body.
pub(crate) fn chat_messages(fields: &mut Map<String, Value>) -> Result<Vec<Message>, Refusal> {
    let messages =
        fields.shift_remove("messages").ok_or_else(|| Refusal::of("missing_messages", "messages", "is missing"))?;
    conversation(&normalize(messages)?).map_err(|why| Refusal::new("invalid_messages", "messages", why))
}

/// Parses a text, token ids, or several of either, as OpenAI's API and vLLM accept them.
fn prompt_list(prompt: Value) -> Result<Vec<PromptInput>, Refusal> {
    let list = match prompt {
        Value::Array(list) if !list.iter().any(Value::is_number) => list,
        one => vec![one],
    };
    let prompts: Option<Vec<PromptInput>> = list.into_iter().map(prompt_input).collect();
    prompts.filter(|prompts| !prompts.is_empty()).ok_or_else(|| {
        Refusal::of("invalid_prompt", "prompt", "must be a string, an array of token ids, or an array of such")
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
fn normalize(mut messages: Value) -> Result<Value, Refusal> {
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
            .ok_or_else(|| {
                Refusal::new("unsupported_content", "messages", "only parts of the type \"text\" can be read")
            })?
            .join("\n");
        message.insert("content".to_owned(), joined.into());
    }
    Ok(messages)
}
