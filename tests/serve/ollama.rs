//! ollama's API.

use crate::support::serve::{Response, Server};
use serde_json::{Value, json};

/// The lines of a streamed response.
fn lines(response: &Response) -> Vec<Value> {
    assert!(response.head.contains("application/x-ndjson"), "{response:?}");
    response.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn chat_and_generate_answer_like_openais_api() {
    let server = Server::start(&[]);
    let expected = server.chat("Hello", r#""max_tokens": 12, "temperature": 0"#).json();
    let text = expected["choices"][0]["message"]["content"].as_str().unwrap();
    let options = json!({"num_predict": 12, "temperature": 0, "num_ctx": 4096});
    let chat = json!({"model": "tulu", "messages": [{"role": "user", "content": "Hello"}], "options": options});
    let streamed = lines(&server.post("/api/chat", &chat.to_string()));
    let joined: String = streamed.iter().map(|line| line["message"]["content"].as_str().unwrap()).collect();
    assert_eq!(joined, text);
    let last = streamed.last().unwrap();
    assert_eq!((&last["done"], &last["eval_count"]), (&json!(true), &expected["usage"]["completion_tokens"]));
    assert_eq!(last["prompt_eval_count"], expected["usage"]["prompt_tokens"]);
    assert!(streamed[..streamed.len() - 1].iter().all(|line| line["done"] == false));

    let generate = json!({"model": "tulu", "prompt": "Hello", "options": options, "stream": false});
    let whole = server.post("/api/generate", &generate.to_string()).json();
    assert_eq!((whole["response"].as_str(), &whole["done"]), (Some(text), &json!(true)));
    let raw = json!({"prompt": "<|user|>\nHello\n<|assistant|>\n", "raw": true, "options": options, "stream": false});
    assert_eq!(server.post("/api/generate", &raw.to_string()).json()["response"].as_str(), Some(text));
    let loaded = server.post("/api/generate", r#"{"model": "tulu"}"#).json();
    assert_eq!((&loaded["done_reason"], &loaded["done"]), (&json!("load"), &json!(true)));
}

#[test]
fn errors_are_texts() {
    let server = Server::start(&["--api-key", "k"]);
    let refused = server.get("/api/tags");
    assert_eq!((refused.status, refused.json()["error"].is_string()), (401, true));
    let key = ["Authorization: Bearer k"];
    let post = |body: &str| server.send("POST", "/api/chat", &key, body);
    for body in ["{", r#"{"messages": 1}"#, r#"{"messages": [{"role": "user", "content": "a"}], "options": {"x": 1}}"#]
    {
        let response = post(body);
        assert_eq!((response.status, response.json()["error"].is_string()), (400, true), "{body}");
    }
    let missing = server.send("GET", "/api/nothing", &key, "");
    assert_eq!((missing.status, missing.json()["error"].is_string()), (404, true));
}

#[test]
fn the_model_is_described() {
    let server = Server::start(&["--alias", "tulu"]);
    let tags = server.get("/api/tags").json();
    let model = &tags["models"][0];
    assert_eq!((&model["name"], &model["details"]["quantization_level"]), (&json!("tulu"), &json!("Q8_0")));
    assert_eq!(model["digest"].as_str().map(str::len), Some(64));
    assert!(server.get("/api/version").json()["version"].is_string());
    assert_eq!(server.get("/api/ps").json()["models"][0]["model"], "tulu");
    let show = server.post("/api/show", r#"{"model": "tulu"}"#).json();
    assert_eq!(
        (&show["model_info"]["llama.context_length"], &show["capabilities"]),
        (&json!(512), &json!(["completion", "tools"]))
    );
}
