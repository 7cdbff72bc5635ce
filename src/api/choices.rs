//! Answers in the shapes of OpenAI's API: the choices of chats and of completions, with log probabilities.

use crate::decode::{Answer, FinishReason, Likely, TokenLogprob};
use serde_json::{Map, Value, json};

/// Returns a choice of a chat.
pub(crate) fn chat_choice(index: usize, answer: &Answer) -> Value {
    json!({
        "index": index,
        "message": {"role": "assistant", "content": answer.text, "refusal": null},
        "logprobs": answer.logprobs.as_deref().map(chat_logprobs),
        "finish_reason": finish_reason(answer.reason),
    })
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
