//! Structured output in serve, batch and chat.

use crate::support::batch::{Job, chat};
use crate::support::serve::Server;
use crate::support::{assert_error, chat as interactive, run};
use serde_json::{Value, json};
use std::fs;

/// A schema with most kinds of values, and whether a value is valid for it.
fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 12},
            "age": {"type": "integer", "minimum": 18, "maximum": 99},
            "share": {"type": "number", "minimum": 0, "maximum": 1},
            "kind": {"enum": ["a", "b \"quoted\"", 7]},
            "tags": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
            "code": {"type": "string", "pattern": "^[A-Z]{2}-\\d{3}$"},
        },
        "required": ["name", "age", "share", "kind", "tags", "code"],
        "additionalProperties": false,
    })
}

fn assert_valid(text: &str) {
    let value: Value = serde_json::from_str(text).unwrap_or_else(|err| panic!("{err}: {text}"));
    assert!(value["name"].as_str().is_some_and(|name| name.chars().count() <= 12), "{text}");
    assert!(value["age"].as_u64().is_some_and(|age| (18..=99).contains(&age)), "{text}");
    assert!(value["share"].as_f64().is_some_and(|share| (0.0..=1.0).contains(&share)), "{text}");
    assert!([json!("a"), json!("b \"quoted\""), json!(7)].contains(&value["kind"]), "{text}");
    let tags = value["tags"].as_array().unwrap();
    assert!((1..=3).contains(&tags.len()) && tags.iter().all(Value::is_boolean), "{text}");
    let code = value["code"].as_str().unwrap();
    assert!(code.len() == 6 && code.as_bytes()[2] == b'-' && code[3..].parse::<u32>().is_ok(), "{text}");
}

#[test]
fn answers_follow_a_schema_at_any_temperature() {
    let server = Server::start(&["-c", "1024"]);
    let format = json!({"type": "json_schema", "json_schema": {"name": "x", "strict": true, "schema": schema()}});
    for seed in 0..12 {
        let temperature = [0.0, 0.7, 3.0][seed % 3];
        let extra =
            format!(r#""response_format": {format}, "temperature": {temperature}, "seed": {seed}, "max_tokens": 400"#);
        let body = server.chat("Who are you?", &extra).json();
        assert_eq!(body["choices"][0]["finish_reason"], "stop", "{body}");
        assert_valid(body["choices"][0]["message"]["content"].as_str().unwrap());
    }
    let cut = server.chat("Hello", &format!(r#""response_format": {format}, "max_tokens": 3"#)).json();
    assert_eq!(cut["choices"][0]["finish_reason"], "length");
    let object = server
        .chat("Hello", r#""response_format": {"type": "json_object"}, "temperature": 0, "max_tokens": 300"#)
        .json();
    if object["choices"][0]["finish_reason"] == "stop" {
        let text = object["choices"][0]["message"]["content"].as_str().unwrap();
        assert!(serde_json::from_str::<Value>(text).is_ok_and(|value| value.is_object()), "{text}");
    }
}

#[test]
fn answers_follow_a_grammar_and_bad_ones_are_refused() {
    let server = Server::start(&[]);
    for seed in 0..5 {
        let extra = format!(r#""grammar": "root ::= (\"yes\" | \"no\") \"!\"", "temperature": 5, "seed": {seed}"#);
        let answer = server.chat("Hello", &extra).answer();
        assert!(["yes!", "no!"].contains(&answer.as_str()), "{answer}");
    }
    for (extra, code) in [
        (r#""grammar": "root ::= (\"yes\"""#, "invalid_grammar"),
        (
            r#""response_format": {"type": "json_schema", "json_schema": {"schema": {"not": {}}}}"#,
            "invalid_json_schema",
        ),
        (r#""response_format": {"type": "json_object"}, "grammar": "root ::= \"a\"""#, "invalid_parameter"),
    ] {
        let response = server.chat("Hello", extra);
        assert_eq!((response.status, response.json()["error"]["code"].as_str()), (400, Some(code)), "{extra}");
    }
    let ollama = json!({"messages": [{"role": "user", "content": "Hello"}], "format": schema(), "stream": false});
    assert_valid(server.post("/api/chat", &ollama.to_string()).json()["message"]["content"].as_str().unwrap());
}

#[test]
fn batch_and_chat_follow_a_schema() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("schema.json");
    fs::write(&file, schema().to_string()).unwrap();
    let file = file.to_str().unwrap();
    let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema()}});
    let wrong = json!({"type": "json_schema", "json_schema": {"schema": {"type": "x"}}});
    let job = Job::new(&[
        chat("own", "Hello", &json!({"response_format": format, "max_tokens": 300})),
        chat("flag", "Hello", &json!({"max_tokens": 300})),
        chat("bad", "Hello", &json!({"response_format": wrong})),
    ]);
    assert_eq!(job.run(&["--json-schema", file, "-c", "1024"]).0, Some(1));
    let records = job.records();
    for record in &records[..2] {
        assert_valid(record["response"]["body"]["choices"][0]["message"]["content"].as_str().unwrap());
    }
    assert_eq!(records[2]["error"]["code"], "invalid_json_schema");
    let args = ["--temp", "0", "-n", "300", "-c", "1024", "-p", "Hello", "--json-schema", file];
    let output = run(&mut interactive::chat(&args), b"");
    assert_valid(String::from_utf8(output.stdout).unwrap().trim());
    let grammar = folder.path().join("bad.gbnf");
    fs::write(&grammar, "root ::= b").unwrap();
    let output = run(&mut interactive::chat(&["-p", "Hello", "--grammar", grammar.to_str().unwrap()]), b"");
    assert_error(&output, 2, "GRAMMAR", &["bad.gbnf", "no rule 'b'"]);
}

#[test]
fn batch_and_chat_give_the_answer_of_serve() {
    // The model is sure of these words, so the last bits of the logits do not matter.
    let grammar = r#"root ::= "Hello! How can I " ("help" | "serve") " you " ("today" | "now") "?""#;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hello.gbnf");
    fs::write(&file, grammar).unwrap();
    let file = file.to_str().unwrap();
    let expected = "Hello! How can I help you today?";
    let server = Server::start(&[]);
    let extra = format!(r#""grammar": {}, "temperature": 0"#, Value::from(grammar));
    assert_eq!(server.chat("Hello", &extra).answer(), expected);
    let job = Job::new(&[
        chat("a", "Hello", &json!({"max_tokens": 60})),
        chat("b", "Hello", &json!({"grammar": grammar, "max_tokens": 60})),
    ]);
    assert_eq!(job.run(&["--grammar", file]).0, Some(0));
    for record in job.records() {
        assert_eq!(record["response"]["body"]["choices"][0]["message"]["content"], expected);
    }
    let output = run(&mut interactive::chat(&["--temp", "0", "-p", "Hello", "--grammar", file]), b"");
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), expected);
}
