//! The body of a request: its prompts and its parameters (`params.rs`). Unsupported fields that would change the answer
//! are refused.

use super::options::RequestOptions;
use super::params;
use super::prompt_input::PromptInput;
use super::refusal::Refusal;
use super::structured;
use super::tools::{self, Tools};
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
                let (messages, tools) = messages_and_tools(&mut fields)?;
                let calls = tools.map(|tools| structured::with_calls(&tools, &mut fields)).transpose()?;
                let mut options = params::read(fields, true)?;
                if let Some((grammar, calls)) = calls {
                    if options.grammar.is_some() {
                        let why = "cannot be combined with \"tools\": give \"tool_choice\": \"none\", or no grammar";
                        return Err(Refusal::of("invalid_parameter", "grammar", why));
                    }
                    (options.grammar, options.calls) = (Some(grammar), Some(calls));
                }
                (vec![PromptInput::Chat(messages)], options)
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

/// Takes the messages out of a body. They describe the functions that the answer may call.
pub(crate) fn chat_messages(fields: &mut Map<String, Value>) -> Result<Vec<Message>, Refusal> {
    messages_and_tools(fields).map(|(messages, _)| messages)
}

fn messages_and_tools(fields: &mut Map<String, Value>) -> Result<(Vec<Message>, Option<Tools>), Refusal> {
    let messages =
        fields.shift_remove("messages").ok_or_else(|| Refusal::of("missing_messages", "messages", "is missing"))?;
    let messages = conversation(&normalize(messages)?);
    let mut messages = messages.map_err(|why| Refusal::new("invalid_messages", "messages", why))?;
    let tools = Tools::take(fields)?;
    if let Some(tools) = &tools {
        tools::add_instructions(&mut messages, tools);
    }
    Ok((messages, tools))
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
/// (some exporters write them) becomes empty. Calls of functions and their results become text; the results of several
/// calls are one message.
fn normalize(mut messages: Value) -> Result<Value, Refusal> {
    let Some(list) = messages.as_array_mut() else { return Ok(messages) };
    let mut results = Vec::new();
    // Whether the message before is a call or a result: only then a result may follow, as in OpenAI's API.
    let mut after_call = false;
    for message in list.iter_mut().filter_map(Value::as_object_mut) {
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
        if let Some(Value::Array(parts)) = message.get("content") {
            let joined = joined(parts)?;
            message.insert("content".to_owned(), joined.into());
        }
        let calls = message.get("tool_calls").and_then(Value::as_array).is_some_and(|calls| !calls.is_empty());
        let is_result = message.get("role").is_some_and(|role| role == "tool");
        if is_result && !after_call {
            let why = "a message of the role \"tool\" must follow an assistant's message with \"tool_calls\"";
            return Err(Refusal::new("invalid_messages", "messages", why));
        }
        after_call = calls || is_result;
        results.push(tools::render_message(message)?);
    }
    if results.len() == list.len() && results.contains(&true) {
        merge_results(list, &results);
    }
    Ok(messages)
}

/// Joins text parts by newlines.
fn joined(parts: &[Value]) -> Result<String, Refusal> {
    let text = |part: &'_ Value| {
        let text = if part["type"] == "text" { part["text"].as_str() } else { part.as_str() };
        text.map(str::to_owned)
    };
    let texts: Option<Vec<String>> = parts.iter().map(text).collect();
    let unsupported = || Refusal::new("unsupported_content", "messages", "only parts of the type \"text\" can be read");
    Ok(texts.ok_or_else(unsupported)?.join("\n"))
}

/// Joins messages that follow each other and are results of calls.
fn merge_results(messages: &mut Vec<Value>, are_results: &[bool]) {
    let mut merged: Vec<Value> = Vec::with_capacity(messages.len());
    for (i, message) in std::mem::take(messages).into_iter().enumerate() {
        let follows = i > 0 && are_results[i - 1] && are_results[i];
        match merged.last_mut().filter(|_| follows) {
            Some(last) => {
                let [first, next] = [&*last, &message].map(|message| message["content"].as_str().unwrap_or_default());
                last["content"] = format!("{first}\n{next}").into();
            }
            None => merged.push(message),
        }
    }
    *messages = merged;
}
