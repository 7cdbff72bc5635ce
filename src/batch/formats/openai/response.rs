//! Output lines in the shape of OpenAI's batch API.

use crate::api::{PromptInput, chat_choice, text_choice};
use crate::batch::record::{AnsweredRecord, RecordError};
use serde_json::{Value, json};

/// Returns the output line of an answered record.
pub(in crate::batch) fn output_record(answered: &AnsweredRecord<'_>) -> Value {
    let AnsweredRecord { record, name, .. } = answered;
    let chat = matches!(record.prompts.first(), Some(PromptInput::Chat(_)));
    let answers = answered.choices.iter().flatten();
    let choices: Vec<Value> = answers
        .enumerate()
        .map(|(i, answer)| {
            let mut n_calls = 0;
            let mut call_id = || {
                n_calls += 1;
                format!("call_{name}_{i}_{n_calls}")
            };
            let calls = record.options.calls.is_some();
            match chat {
                true => chat_choice(i, answer, calls.then_some(&mut call_id)),
                false => text_choice(i, answer),
            }
        })
        .collect();
    let (prefix, object) = if chat { ("chatcmpl", "chat.completion") } else { ("cmpl", "text_completion") };
    let (prompt_tokens, completion_tokens) = answered.tokens();
    json!({
        "id": format!("batch_req_{name}"),
        "custom_id": record.id,
        "response": {
            "status_code": 200,
            "request_id": format!("req_{name}"),
            "body": {
                "id": format!("{prefix}-{name}"),
                "object": object,
                "created": answered.stamp as u64,
                "model": answered.model,
                "choices": choices,
                "usage": {
                    "prompt_tokens": prompt_tokens,
                    "completion_tokens": completion_tokens,
                    "total_tokens": prompt_tokens + completion_tokens,
                },
                "system_fingerprint": answered.fingerprint,
            },
        },
        "error": null,
    })
}

/// Returns the output line of a failed record. Programs for OpenAI's error files and vLLM's results read the response's
/// status and body; others read `error`.
pub(in crate::batch) fn error_record(name: &str, error_record: &RecordError, error: Value) -> Value {
    let body = json!({"message": error_record.message, "type": "invalid_request_error", "param": null, "code": error_record.code});
    json!({
        "id": format!("batch_req_{name}"),
        "custom_id": error_record.id,
        "response": {"status_code": 400, "request_id": format!("req_{name}"), "body": {"error": body}},
        "error": error,
    })
}
