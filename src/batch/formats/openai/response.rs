//! Output lines in the shape of OpenAI's batch API.

use crate::batch::record::{AnsweredRecord, PromptInput, RecordError};
use crate::decode::{Answer, FinishReason, Likely, TokenLogprob};
use serde_json::{Map, Value, json};

/// Returns the output line of an answered record.
pub(in crate::batch) fn output_record(answered: &AnsweredRecord<'_>) -> Value {
    let AnsweredRecord { record, name, .. } = answered;
    let chat = matches!(record.prompts.first(), Some(PromptInput::Chat(_)));
    let answers = answered.choices.iter().flatten();
    let choices: Vec<Value> =
        answers.enumerate().map(|(i, answer)| if chat { message(i, answer) } else { text(i, answer) }).collect();
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

fn message(index: usize, answer: &Answer) -> Value {
    let logprobs = answer.logprobs.as_ref().map(|tokens| {
        let tokens: Vec<Value> = tokens
            .iter()
            .map(|token| {
                let mut fields = shown(&token.chosen);
                fields.insert("top_logprobs".to_owned(), token.top.iter().map(shown).collect());
                Value::Object(fields)
            })
            .collect();
        json!({"content": tokens, "refusal": null})
    });
    json!({
        "index": index,
        "message": {"role": "assistant", "content": answer.text, "refusal": null},
        "logprobs": logprobs,
        "finish_reason": finish_reason(answer),
    })
}

fn text(index: usize, answer: &Answer) -> Value {
    let logprobs = answer.logprobs.as_deref().map(columns);
    json!({"index": index, "text": answer.text, "logprobs": logprobs, "finish_reason": finish_reason(answer)})
}

fn finish_reason(answer: &Answer) -> &'static str {
    if answer.reason == FinishReason::Length { "length" } else { "stop" }
}

fn shown(token: &Likely) -> Map<String, Value> {
    let text = String::from_utf8_lossy(&token.piece);
    let fields = [("token", json!(text)), ("logprob", json!(token.logprob)), ("bytes", json!(token.piece))];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Formats log probabilities as in `/v1/completions`: a list for each field. Offsets count characters of the answer.
fn columns(tokens: &[TokenLogprob]) -> Value {
    let text = |token: &Likely| String::from_utf8_lossy(&token.piece).into_owned();
    let mut offset = 0;
    let offsets: Vec<usize> = tokens
        .iter()
        .map(|token| {
            let from = offset;
            offset += text(&token.chosen).chars().count();
            from
        })
        .collect();
    let top = |token: &TokenLogprob| -> Map<String, Value> {
        let all = std::iter::once(&token.chosen).chain(&token.top);
        all.map(|likely| (text(likely), json!(likely.logprob))).collect()
    };
    json!({
        "tokens": tokens.iter().map(|token| text(&token.chosen)).collect::<Vec<_>>(),
        "token_logprobs": tokens.iter().map(|token| token.chosen.logprob).collect::<Vec<_>>(),
        "top_logprobs": tokens.iter().map(top).collect::<Vec<_>>(),
        "text_offset": offsets,
    })
}
