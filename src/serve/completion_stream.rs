//! The server-sent events of `/v1/chat/completions` and `/v1/completions`.

use super::error::{ApiError, Face};
use super::event_body::StreamFormat;
use super::response_head::{ResponseHead, TotalUsage};
use super::server::new_id;
use crate::api::{CallParser, Endpoint, Part, calls_reason, chat_logprobs, finish_reason, text_logprobs};
use crate::decode::{Answer, Event, TokenLogprob};
use serde_json::{Value, json};
use std::ops::Range;

/// Writes the events of one response.
pub(super) struct CompletionStream {
    head: ResponseHead,
    endpoint: Endpoint,
    /// Answers for each prompt, and copies of each in the response.
    n: usize,
    copies: usize,
    include_usage: bool,
    usage: TotalUsage,
    requests: Vec<RequestState>,
}

/// The state of one request of the decoder.
#[derive(Debug, Default)]
struct RequestState {
    /// Log probabilities of the next text.
    logprobs: Vec<TokenLogprob>,
    /// Characters so far of tokens with log probabilities.
    offset: usize,
    /// Finds calls of functions; `None`: the answer may not call any.
    parser: Option<CallParser>,
    /// Calls that began, and calls that are complete.
    begun: usize,
    complete: usize,
}

impl CompletionStream {
    /// Writes `n_requests` answers. `include_usage`: the usage is the last event.
    pub(super) fn new(
        head: ResponseHead,
        endpoint: Endpoint,
        n_requests: usize,
        (n, copies): (usize, usize),
        include_usage: bool,
    ) -> Self {
        let requests = (0..n_requests).map(|_| RequestState::default()).collect();
        Self { head, endpoint, n, copies, include_usage, usage: TotalUsage::default(), requests }
    }

    /// The answers may call functions.
    pub(super) fn with_calls(mut self) -> Self {
        self.requests.iter_mut().for_each(|state| state.parser = Some(CallParser::default()));
        self
    }

    /// The choices of the response that have the answer of request `index`.
    fn choices(&self, index: usize) -> Range<usize> {
        index * self.copies..(index + 1) * self.copies
    }

    fn data(&self, choices: &Value, usage: Option<&Value>) -> String {
        let object = match self.endpoint {
            Endpoint::Chat => "chat.completion.chunk",
            Endpoint::Text => "text_completion",
        };
        let mut chunk = json!({
            "id": self.head.id,
            "object": object,
            "created": self.head.created,
            "model": self.head.model,
            "system_fingerprint": self.head.fingerprint,
            "choices": choices,
        });
        if self.include_usage {
            chunk["usage"] = usage.cloned().unwrap_or_default();
        }
        format!("data: {chunk}\n\n")
    }

    fn chunk(&self, choice: usize, delta: &Value, text: &str, logprobs: &Value, reason: Option<&str>) -> String {
        let choice = match self.endpoint {
            Endpoint::Chat => {
                json!({"index": choice, "delta": delta, "logprobs": logprobs, "finish_reason": reason})
            }
            Endpoint::Text => {
                json!({"index": choice, "text": text, "logprobs": logprobs, "finish_reason": reason})
            }
        };
        self.data(&json!([choice]), None)
    }

    /// Appends the chunks of a text.
    fn text(&mut self, index: usize, text: &str, out: &mut String) {
        let logprobs = self.take_logprobs(index);
        let delta = json!({"content": text});
        for choice in self.choices(index) {
            out.push_str(&self.chunk(choice, &delta, text, &logprobs, None));
        }
    }

    /// Appends the chunks of text and calls.
    fn parts(&mut self, index: usize, parts: Vec<Part>, out: &mut String) {
        for part in parts {
            let Some(state) = self.requests.get_mut(index) else { return };
            let (name, arguments) = match part {
                Part::Text(text) => {
                    self.text(index, &text, out);
                    continue;
                }
                Part::End => {
                    state.complete += 1;
                    continue;
                }
                Part::Call(name) => {
                    state.begun += 1;
                    (Some(name), String::new())
                }
                Part::Arguments(text) => (None, text),
            };
            let number = state.begun.saturating_sub(1);
            let logprobs = self.take_logprobs(index);
            for choice in self.choices(index) {
                let call = match &name {
                    Some(name) => {
                        let function = json!({"name": name, "arguments": arguments});
                        json!({"index": number, "id": new_id("call"), "type": "function", "function": function})
                    }
                    None => json!({"index": number, "function": {"arguments": arguments}}),
                };
                out.push_str(&self.chunk(choice, &json!({"tool_calls": [call]}), "", &logprobs, None));
            }
        }
    }

    /// Appends the last chunks of an answer.
    fn finished(&mut self, index: usize, answer: &Answer, out: &mut String) {
        self.usage.add(answer, index, self.n, self.copies);
        let rest = self.requests.get_mut(index).and_then(|state| state.parser.as_mut()).map(CallParser::finish);
        self.parts(index, rest.unwrap_or_default(), out);
        let calls = self.requests.get(index).is_some_and(|state| state.begun > 0 && state.begun == state.complete);
        let reason = if calls { calls_reason(answer.reason) } else { finish_reason(answer.reason) };
        for choice in self.choices(index) {
            out.push_str(&self.chunk(choice, &json!({}), "", &Value::Null, Some(reason)));
        }
    }

    /// Takes the log probabilities of the next text; null if there are none.
    fn take_logprobs(&mut self, index: usize) -> Value {
        let Some(state) = self.requests.get_mut(index) else { return Value::Null };
        let tokens = std::mem::take(&mut state.logprobs);
        if tokens.is_empty() {
            return Value::Null;
        }
        match self.endpoint {
            Endpoint::Chat => chat_logprobs(&tokens),
            Endpoint::Text => {
                let value = text_logprobs(&tokens, state.offset);
                state.offset += tokens
                    .iter()
                    .map(|token| String::from_utf8_lossy(&token.chosen.piece).chars().count())
                    .sum::<usize>();
                value
            }
        }
    }
}

impl StreamFormat for CompletionStream {
    fn head(&mut self) -> String {
        if self.endpoint == Endpoint::Text {
            return String::new();
        }
        let role = json!({"role": "assistant", "content": ""});
        let choices = 0..self.requests.len() * self.copies;
        choices.map(|choice| self.chunk(choice, &role, "", &Value::Null, None)).collect()
    }

    fn event(&mut self, index: usize, event: Event, out: &mut String) {
        match event {
            Event::Prefill { .. } => {}
            Event::Logprobs(tokens) => {
                if let Some(state) = self.requests.get_mut(index) {
                    state.logprobs.extend(tokens);
                }
            }
            Event::Text(text) => match self.requests.get_mut(index).and_then(|state| state.parser.as_mut()) {
                Some(parser) => {
                    let parts = parser.push(&text);
                    self.parts(index, parts, out);
                }
                None => self.text(index, &text, out),
            },
            Event::Finished(answer) => self.finished(index, &answer, out),
        }
    }

    fn end(&mut self) -> String {
        let usage = match self.include_usage {
            true => self.data(&json!([]), Some(&self.usage.json())),
            false => String::new(),
        };
        format!("{usage}data: [DONE]\n\n")
    }

    fn error(&self, error: &ApiError) -> String {
        format!("data: {}\n\n", error.body(Face::OpenAi))
    }

    fn ping(&self) -> Option<&'static str> {
        Some(": ping\n\n")
    }
}
