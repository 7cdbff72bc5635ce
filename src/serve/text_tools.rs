//! `/tokenize`, `/detokenize` and `/apply-template`, with the fields of llama-server.

use super::error::{ApiError, Face, json_response};
use super::prompt_thread::{PromptTools, run_task};
use super::server::Server;
use crate::api::{Refusal, chat_messages};
use crate::engine::Token;
use crate::error::Failure;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Computes a response from the fields of a body.
type Tool = fn(&PromptTools<'_>, Map<String, Value>) -> Result<Value, Refusal>;

/// Answers `/tokenize`.
pub(super) async fn tokenize(State(server): State<Arc<Server>>, request: Request) -> Response {
    respond(&server, request, to_tokens).await
}

/// Answers `/detokenize`.
pub(super) async fn detokenize(State(server): State<Arc<Server>>, request: Request) -> Response {
    respond(&server, request, to_text).await
}

/// Answers `/apply-template`.
pub(super) async fn apply_template(State(server): State<Arc<Server>>, request: Request) -> Response {
    respond(&server, request, to_prompt).await
}

async fn respond(server: &Server, request: Request, tool: Tool) -> Response {
    let computed = compute(server, request, tool).await;
    computed.map_or_else(|error| error.response(Face::OpenAi), |body| json_response(StatusCode::OK, &body))
}

async fn compute(server: &Server, request: Request, tool: Tool) -> Result<Value, ApiError> {
    let (parts, body) = request.into_parts();
    let body = server.bodies.read(&parts, body).await?;
    let work = move |tools: &PromptTools<'_>| -> Result<Value, ApiError> { Ok(tool(tools, body.object()?)?) };
    run_task(&server.tasks, work).await?
}

/// `content`, `add_special` (BOS; false), `parse_special` (true), `with_pieces` (false).
fn to_tokens(tools: &PromptTools<'_>, fields: Map<String, Value>) -> Result<Value, Refusal> {
    only(&fields, &["content", "add_special", "parse_special", "with_pieces"])?;
    let Some(Value::String(text)) = fields.get("content") else {
        return Err(Refusal::of("invalid_parameter", "content", "must be a string"));
    };
    let (special, parse) = (switch(&fields, "add_special", false)?, switch(&fields, "parse_special", true)?);
    let ids = match parse {
        true => tools.prompts.rendered(text, special).map(|(ids, _)| ids),
        false => tools.prompts.plain(text, special),
    };
    let ids = ids.map_err(refused)?;
    let tokens: Vec<Value> = match switch(&fields, "with_pieces", false)? {
        false => ids.iter().map(|id| json!(id.0)).collect(),
        true => ids.iter().map(|id| json!({"id": id.0, "piece": piece(tools, *id)})).collect(),
    };
    Ok(json!({"tokens": tokens}))
}

/// The text of a token, or its bytes if they are not whole characters.
fn piece(tools: &PromptTools<'_>, id: Token) -> Value {
    let bytes = tools.vocab.shown(id);
    String::from_utf8(bytes).map_or_else(|err| json!(err.into_bytes()), |text| json!(text))
}

/// `tokens`: ids.
fn to_text(tools: &PromptTools<'_>, fields: Map<String, Value>) -> Result<Value, Refusal> {
    only(&fields, &["tokens"])?;
    let id = |id: &Value| id.as_i64().and_then(|id| i32::try_from(id).ok()).map(Token::new);
    let ids = fields.get("tokens").and_then(Value::as_array);
    let ids: Option<Vec<Token>> = ids.and_then(|ids| ids.iter().map(id).collect());
    let ids = ids.ok_or_else(|| Refusal::of("invalid_parameter", "tokens", "must be an array of token ids"))?;
    let ids = tools.prompts.checked(&ids).map_err(refused)?;
    let bytes: Vec<u8> = ids.into_iter().flat_map(|id| tools.vocab.shown(id)).collect();
    Ok(json!({"content": String::from_utf8_lossy(&bytes)}))
}

/// `messages`, `add_generation_prompt` (true), and the parameters of tool calls.
fn to_prompt(tools: &PromptTools<'_>, mut fields: Map<String, Value>) -> Result<Value, Refusal> {
    let of_calls = ["tools", "tool_choice", "parallel_tool_calls"];
    only(&fields, &[&["messages", "add_generation_prompt", "model"], &of_calls[..]].concat())?;
    let generation = switch(&fields, "add_generation_prompt", true)?;
    let messages = chat_messages(&mut fields)?;
    let prompt = tools.prompts.render(&messages, generation).map_err(refused)?;
    Ok(json!({"prompt": prompt.text}))
}

fn refused(failure: Failure) -> Refusal {
    Refusal::from_failure(&failure, true)
}

fn switch(fields: &Map<String, Value>, name: &str, default: bool) -> Result<bool, Refusal> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(default),
        Some(Value::Bool(value)) => Ok(*value),
        Some(_) => Err(Refusal::of("invalid_parameter", name, "must be true or false")),
    }
}

/// Refuses fields that are not `known`.
fn only(fields: &Map<String, Value>, known: &[&str]) -> Result<(), Refusal> {
    match fields.keys().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => {
            let name: String = name.chars().take(40).collect();
            Err(Refusal::new("unknown_parameter", &name, format!("there is no parameter \"{name}\"")))
        }
    }
}
