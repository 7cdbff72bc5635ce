//! Server-sent events.

use crate::support::serve::Server;
use serde_json::{Value, json};

/// The parsed events before `[DONE]`, which is the last one.
fn chunks(events: &[String]) -> Vec<Value> {
    let (done, chunks) = events.split_last().unwrap();
    assert_eq!(done, "[DONE]");
    chunks.iter().map(|event| serde_json::from_str(event).unwrap()).collect()
}

/// The text of choice `index`.
fn text(chunks: &[Value], index: u64) -> String {
    let of_index = chunks.iter().flat_map(|chunk| chunk["choices"].as_array().unwrap()).filter(|c| c["index"] == index);
    of_index.filter_map(|choice| choice["delta"]["content"].as_str()).collect()
}

/// Asserts that both are equal, with numbers up to 0.001: the prompt is cached the second time, which changes last bits.
fn assert_near(a: &Value, b: &Value) {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            assert_eq!(a.len(), b.len());
            a.iter().zip(b).for_each(|(a, b)| assert_near(a, b));
        }
        (Value::Object(a), Value::Object(b)) => {
            assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
            a.values().zip(b.values()).for_each(|(a, b)| assert_near(a, b));
        }
        (Value::Number(a), Value::Number(b)) => {
            assert!((a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-3, "{a} {b}");
        }
        (a, b) => assert_eq!(a, b),
    }
}

#[test]
fn a_stream_has_the_answer_and_its_usage() {
    let server = Server::start(&[]);
    let whole = server.chat("Hello", r#""max_tokens": 16, "temperature": 0"#).json();
    let extra = r#""max_tokens": 16, "temperature": 0, "stream": true, "stream_options": {"include_usage": true}"#;
    let response = server.chat("Hello", extra);
    assert!(response.head.contains("content-type: text/event-stream"), "{}", response.head);
    let chunks = chunks(&response.events());
    assert_eq!(chunks[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    assert_eq!(text(&chunks, 0), whole["choices"][0]["message"]["content"].as_str().unwrap());
    assert!(chunks.iter().all(|chunk| chunk["id"] == chunks[0]["id"] && chunk["object"] == "chat.completion.chunk"));
    let (last, before) = chunks.split_last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["completion_tokens"], whole["usage"]["completion_tokens"]);
    assert!(before.iter().all(|chunk| chunk["usage"].is_null() && chunk.as_object().unwrap().contains_key("usage")));
    assert_eq!(before.last().unwrap()["choices"][0]["finish_reason"], whole["choices"][0]["finish_reason"]);
    let plain = server.chat("Hello", r#""max_tokens": 2, "stream": true"#);
    assert!(!plain.body.contains("usage"));
}

#[test]
fn log_probabilities_come_with_their_text() {
    let server = Server::start(&[]);
    let extra = r#""max_tokens": 16, "temperature": 0, "logprobs": true, "top_logprobs": 1, "stop": ["zzz"]"#;
    let whole = server.chat("Hello", extra).json();
    let streamed = chunks(&server.chat("Hello", &format!("{extra}, \"stream\": true")).events());
    let parts = streamed.iter().map(|chunk| &chunk["choices"][0]["logprobs"]["content"]);
    let tokens: Vec<Value> = parts.filter_map(Value::as_array).flatten().cloned().collect();
    assert_near(&Value::from(tokens), &whole["choices"][0]["logprobs"]["content"]);

    let body = |stream: bool| {
        let body = json!({"prompt": "Hello", "max_tokens": 9, "temperature": 0, "logprobs": 2, "stream": stream});
        server.post("/v1/completions", &body.to_string())
    };
    let whole = body(false).json();
    let streamed = chunks(&body(true).events());
    for field in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
        let parts = streamed.iter().filter_map(|chunk| chunk["choices"][0]["logprobs"][field].as_array());
        let all: Vec<Value> = parts.flatten().cloned().collect();
        assert_near(&Value::from(all), &whole["choices"][0]["logprobs"][field]);
    }
    let text: String = streamed.iter().filter_map(|chunk| chunk["choices"][0]["text"].as_str()).collect();
    assert_eq!(whole["choices"][0]["text"], text);
}

#[test]
fn several_choices_are_streamed_together() {
    let server = Server::start(&[]);
    for temperature in [0, 4] {
        let extra = format!(r#""max_tokens": 8, "n": 3, "seed": 5, "temperature": {temperature}"#);
        let whole = server.chat("Hello", &extra).json();
        let streamed = chunks(&server.chat("Hello", &format!("{extra}, \"stream\": true")).events());
        for index in 0..3_u64 {
            let expected = whole["choices"][index as usize]["message"]["content"].as_str().unwrap();
            assert_eq!(text(&streamed, index), expected, "{temperature} {index}");
        }
    }
}
