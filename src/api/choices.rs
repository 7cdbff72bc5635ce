//! Answers in the shapes of OpenAI's API: the choices of chats and of completions, with log probabilities.

use super::tools::parse_calls;
use crate::decode::{Answer, FinishReason, Likely, TokenLogprob};
use serde_json::{Map, Value, json};

/// Returns the id of the next call.
pub(crate) type CallId<'a> = &'a mut dyn FnMut() -> String;

/// Returns a choice of a chat. With `call_id`, the answer may call functions.
pub(crate) fn chat_choice(index: usize, answer: &Answer, call_id: Option<CallId<'_>>) -> Value {
    let logprobs = answer.logprobs.as_deref().map(chat_logprobs);
    let mut message = json!({"role": "assistant", "content": answer.text, "refusal": null});
    let mut reason = finish_reason(answer.reason);
    if let Some(call_id) = call_id {
        let (text, calls) = parse_calls(&answer.text);
        message["content"] = if text.is_empty() && !calls.is_empty() { Value::Null } else { text.into() };
        if !calls.is_empty() {
            reason = if calls.iter().all(|call| call.complete) { calls_reason(answer.reason) } else { reason };
            let call = |call: super::tools::Call| json!({"id": call_id(), "type": "function", "function": {"name": call.name, "arguments": call.arguments}});
            message["tool_calls"] = calls.into_iter().map(call).collect();
        }
    }
    json!({"index": index, "message": message, "logprobs": logprobs, "finish_reason": reason})
}

/// Returns the name of the reason for the end of an answer with complete calls.
pub(crate) fn calls_reason(reason: FinishReason) -> &'static str {
    if reason == FinishReason::Stop { "tool_calls" } else { finish_reason(reason) }
}

/// Returns a choice of `/v1/completions`.
pub(crate) fn text_choice(index: usize, answer: &Answer) -> Value {
    let logprobs = answer.logprobs.as_deref().map(|tokens| text_logprobs(tokens, 0));
    json!({"index": index, "text": answer.text, "logprobs": logprobs, "finish_reason": finish_reason(answer.reason)})
}

/// Returns the name of a reason in OpenAI's API.
pub(crate) fn finish_reason(reason: FinishReason) -> &'static str {
    if reason == FinishReason::Length { "length" } else { "stop" }
}

/// Formats log probabilities as in a chat: an object for each token.
pub(crate) fn chat_logprobs(tokens: &[TokenLogprob]) -> Value {
    let token = |token: &TokenLogprob| {
        let mut fields = shown(&token.chosen);
        fields.insert("top_logprobs".to_owned(), token.top.iter().map(shown).collect());
        Value::Object(fields)
    };
    json!({"content": tokens.iter().map(token).collect::<Vec<_>>(), "refusal": null})
}

fn shown(token: &Likely) -> Map<String, Value> {
    let text = String::from_utf8_lossy(&token.piece);
    let fields = [("token", json!(text)), ("logprob", json!(token.logprob)), ("bytes", json!(token.piece))];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Formats log probabilities as in `/v1/completions`: a list for each field. Offsets count characters of the answer;
/// `offset` is that of the first token.
pub(crate) fn text_logprobs(tokens: &[TokenLogprob], mut offset: usize) -> Value {
    let text = |token: &Likely| String::from_utf8_lossy(&token.piece).into_owned();
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
