//! The JSON lines of ollama's `/api/chat` and `/api/generate`.

use crate::clock;
use crate::decode::{Answer, Event, FinishReason};
use crate::serve::error::{ApiError, Face};
use crate::serve::event_body::StreamFormat;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// The field that has the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextField {
    /// `message`, of `/api/chat`.
    Message,
    /// `response`, of `/api/generate`.
    Response,
}

/// Writes the lines of one response.
#[derive(Clone, Debug)]
pub(super) struct JsonLines {
    pub(super) model: String,
    pub(super) field: TextField,
}

impl JsonLines {
    /// Returns a line with `text`.
    fn line(&self, text: &str, done: bool) -> Map<String, Value> {
        let (name, value) = match self.field {
            TextField::Message => ("message", json!({"role": "assistant", "content": text})),
            TextField::Response => ("response", json!(text)),
        };
        Map::from_iter([
            ("model".to_owned(), json!(self.model)),
            ("created_at".to_owned(), json!(clock::utc(clock::now() as u64))),
            (name.to_owned(), value),
            ("done".to_owned(), json!(done)),
        ])
    }

    /// Returns the last line, with `text` and the counts of the answer.
    pub(super) fn last(&self, text: &str, answer: &Answer) -> Value {
        let usage = &answer.usage;
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let mut line = self.line(text, true);
        let reason = if answer.reason == FinishReason::Length { "length" } else { "stop" };
        let counts = [
            ("done_reason", json!(reason)),
            ("total_duration", json!(nanoseconds(usage.prefill + usage.generation))),
            ("load_duration", json!(0)),
            ("prompt_eval_count", json!(usage.prompt_tokens)),
            ("prompt_eval_duration", json!(nanoseconds(usage.prefill))),
            ("eval_count", json!(usage.completion_tokens)),
            ("eval_duration", json!(nanoseconds(usage.generation))),
        ];
        line.extend(counts.map(|(name, value)| (name.to_owned(), value)));
        line.into()
    }

    /// Returns the only line of a request without a prompt.
    pub(super) fn loaded(&self) -> Value {
        let mut line = self.line("", true);
        line.insert("done_reason".to_owned(), json!("load"));
        line.into()
    }
}

impl StreamFormat for JsonLines {
    fn head(&mut self) -> String {
        String::new()
    }

    fn event(&mut self, _index: usize, event: Event, out: &mut String) {
        let line = match event {
            Event::Prefill { .. } | Event::Logprobs(_) => return,
            Event::Text(text) => self.line(&text, false).into(),
            Event::Finished(answer) => self.last("", &answer),
        };
        out.push_str(&format!("{line}\n"));
    }

    fn end(&mut self) -> String {
        String::new()
    }

    fn error(&self, error: &ApiError) -> String {
        format!("{}\n", error.body(Face::Ollama))
    }

    fn ping(&self) -> Option<&'static str> {
        None
    }
}
