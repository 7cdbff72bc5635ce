//! Requests that are refused, with OpenAI's shape and status.

use crate::support::serve::{Server, chat_body};

#[test]
fn errors_have_openais_shape() {
    let server = Server::start(&[]);
    let chat = |body: &str| server.post("/v1/chat/completions", body);
    for (body, code, param) in [
        ("", "bad_json", None),
        ("{", "bad_json", None),
        ("[]", "invalid_body", None),
        ("{}", "missing_messages", Some("messages")),
        (r#"{"messages": []}"#, "invalid_messages", Some("messages")),
        (r#"{"messages": [{"role": "x", "content": ""}]}"#, "invalid_messages", Some("messages")),
        (r#"{"messages": [{"role": "user", "content": "\ud800"}]}"#, "bad_json", None),
        ("{\"messages\": [{\"role\": \"user\", \"content\": \"\u{0}\"}]}", "bad_json", None),
        (&chat_body("a", r#""max_token": 1"#), "unknown_parameter", Some("max_token")),
        (&chat_body("a", r#""temperature": -1"#), "invalid_parameter", Some("temperature")),
        (&chat_body("a", r#""stream": 1"#), "invalid_parameter", Some("stream")),
        (&chat_body("a", r#""stream_options": {}"#), "invalid_parameter", Some("stream_options")),
        (&chat_body("a", r#""modalities": ["audio"]"#), "unsupported_parameter", Some("modalities")),
        (&chat_body(&"a b ".repeat(2000), ""), "context_length_exceeded", None),
    ] {
        let response = chat(body);
        let error = response.json()["error"].clone();
        let shown: String = body.chars().take(80).collect();
        assert_eq!(response.status, 400, "{shown}: {error}");
        assert_eq!(
            (error["code"].as_str(), error["type"].as_str()),
            (Some(code), Some("invalid_request_error")),
            "{shown}"
        );
        assert_eq!(error["param"].as_str(), param, "{shown}");
        assert!(error["message"].as_str().is_some_and(|message| message.len() > 5), "{error}");
    }
    assert_eq!(server.post("/v1/completions", r#"{"prompt": [1, 999999]}"#).json()["error"]["code"], "invalid_prompt");
    assert_eq!(server.post("/v1/completions", r#"{"prompt": ""}"#).status, 200, "BOS alone is a prompt");
    let embeddings = server.post("/v1/embeddings", r#"{"input": "a"}"#);
    assert_eq!((embeddings.status, embeddings.json()["error"]["code"].as_str()), (400, Some("unsupported_endpoint")));
    // The server still answers.
    assert_eq!(chat(&chat_body("a", r#""max_tokens": 1"#)).status, 200);
}

#[test]
fn paths_and_methods() {
    let server = Server::start(&[]);
    for path in [
        "/nothing",
        "/v1",
        "/../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/v1/models/../../etc/passwd",
        "//",
        "/v1/chat",
    ] {
        let response = server.get(path);
        assert_eq!(
            (response.status, response.json()["error"]["type"].as_str()),
            (404, Some("not_found_error")),
            "{path}"
        );
    }
    let wrong = server.get("/v1/chat/completions");
    assert_eq!((wrong.status, wrong.json()["error"]["code"].as_str()), (405, Some("method_not_allowed")));
    assert!(wrong.head.contains("allow: post"), "{}", wrong.head);
    assert_eq!(server.send("DELETE", "/v1/models", &[], "").status, 405);
}
