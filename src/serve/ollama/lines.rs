//! The JSON lines of ollama's `/api/chat` and `/api/generate`.

use crate::api::{CallParser, Part, parse_calls};
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
    model: String,
    field: TextField,
    /// Finds calls of functions; `None`: the answer may not call any.
    parser: Option<CallParser>,
    /// The call that is not complete: its name and arguments.
    call: (String, String),
}

impl JsonLines {
    /// Writes the answers of `model`.
    pub(super) fn new(model: String, field: TextField) -> Self {
        Self { model, field, parser: None, call: Default::default() }
    }

    /// The answer may call functions.
    pub(super) fn with_calls(mut self) -> Self {
        self.parser = Some(CallParser::default());
        self
    }

    /// Returns the only line of an answer in one piece.
    pub(super) fn whole(&self, answer: &Answer) -> Value {
        if self.parser.is_none() {
            return self.last(&answer.text, answer);
        }
        let (text, calls) = parse_calls(&answer.text);
        let mut line = self.last(&text, answer);
        let calls: Vec<Value> = calls.iter().filter_map(|call| shown_call(&call.name, &call.arguments)).collect();
        if !calls.is_empty() {
            line["message"]["tool_calls"] = calls.into();
        }
        line
    }

    /// Appends the lines of text and calls. A call is one line, because its arguments are an object.
    fn parts(&mut self, parts: Vec<Part>, out: &mut String) {
        for part in parts {
            match part {
                Part::Text(text) => out.push_str(&format!("{}\n", Value::from(self.line(&text, false)))),
                Part::Call(name) => self.call = (name, String::new()),
                Part::Arguments(text) => self.call.1.push_str(&text),
                Part::End => {
                    let (name, arguments) = std::mem::take(&mut self.call);
                    if let Some(call) = shown_call(&name, &arguments) {
                        let mut line = Value::from(self.line("", false));
                        line["message"]["tool_calls"] = json!([call]);
                        out.push_str(&format!("{line}\n"));
                    }
                }
            }
        }
    }

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

/// Returns a call as in ollama's API; `None` if the answer ended within its arguments.
fn shown_call(name: &str, arguments: &str) -> Option<Value> {
    let arguments: Value = serde_json::from_str(arguments).ok()?;
    Some(json!({"function": {"name": name, "arguments": arguments}}))
}

impl StreamFormat for JsonLines {
    fn head(&mut self) -> String {
        String::new()
    }

    fn event(&mut self, _index: usize, event: Event, out: &mut String) {
        match event {
            Event::Prefill { .. } | Event::Logprobs(_) => {}
            Event::Text(text) => {
                let parts = match &mut self.parser {
                    Some(parser) => parser.push(&text),
                    None => vec![Part::Text(text)],
                };
                self.parts(parts, out);
            }
            Event::Finished(answer) => {
                let rest = self.parser.as_mut().map(CallParser::finish);
                self.parts(rest.unwrap_or_default(), out);
                out.push_str(&format!("{}\n", self.last("", &answer)));
            }
        }
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

#[cfg(test)]
mod tests {
    use super::{JsonLines, TextField};
    use crate::decode::Event;
    use crate::serve::event_body::StreamFormat as _;
    use serde_json::{Value, json};

    #[test]
    fn a_call_is_one_line() {
        let mut lines = JsonLines::new("m".to_owned(), TextField::Message).with_calls();
        let mut out = String::new();
        let answer = "Yes.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": [1, \"}\"]}}\n</tool_call>";
        for piece in answer.as_bytes().chunks(3) {
            lines.event(0, Event::Text(String::from_utf8_lossy(piece).into_owned()), &mut out);
        }
        let messages: Vec<Value> =
            out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["message"].clone()).collect();
        let (call, text) = messages.split_last().unwrap();
        assert_eq!(call["tool_calls"], json!([{"function": {"name": "f", "arguments": {"a": [1, "}"]}}}]));
        assert_eq!(text.iter().filter_map(|line| line["content"].as_str()).collect::<String>(), "Yes.\n");
    }
}
