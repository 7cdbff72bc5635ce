//! OpenAI batch lines, as they go out. What comes in is in `openai`.

use super::openai::{Ask, Record, Refusal};
use serde_json::{Value, json};

/// What an output line needs to know of an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered<'a> {
    /// The text.
    pub(crate) text: &'a str,
    /// It ended because of a limit, not by itself.
    pub(crate) cut: bool,
    /// Tokens of the prompt.
    pub(crate) prompt_tokens: usize,
    /// Tokens of the answer.
    pub(crate) completion_tokens: usize,
    /// The model that answered.
    pub(crate) model: &'a str,
    /// Seconds since 1970.
    pub(crate) created: u64,
}

/// The output line of an answered record; `key` is unique in the run.
pub(crate) fn answer_line(key: &str, record: &Record, answered: &Answered<'_>) -> Value {
    let finish_reason = if answered.cut { "length" } else { "stop" };
    let (prefix, object, choice) = match record.ask {
        Ask::Chat(_) => (
            "chatcmpl",
            "chat.completion",
            json!({"index": 0, "message": {"role": "assistant", "content": answered.text}, "logprobs": null,
                   "finish_reason": finish_reason}),
        ),
        Ask::Text(_) => (
            "cmpl",
            "text_completion",
            json!({"index": 0, "text": answered.text, "logprobs": null, "finish_reason": finish_reason}),
        ),
    };
    json!({
        "id": format!("batch_req_{key}"),
        "custom_id": record.custom_id,
        "response": {
            "status_code": 200,
            "request_id": format!("req_{key}"),
            "body": {
                "id": format!("{prefix}-{key}"),
                "object": object,
                "created": answered.created,
                "model": answered.model,
                "choices": [choice],
                "usage": {
                    "prompt_tokens": answered.prompt_tokens,
                    "completion_tokens": answered.completion_tokens,
                    "total_tokens": answered.prompt_tokens + answered.completion_tokens,
                },
            },
        },
        "error": null,
    })
}

/// The output line of a record that is not answered.
pub(crate) fn refusal_line(key: &str, line: u64, refusal: &Refusal) -> Value {
    json!({
        "id": format!("batch_req_{key}"),
        "custom_id": refusal.custom_id,
        "response": null,
        "error": {"code": refusal.code, "message": refusal.message, "line": line},
    })
}
