//! Answers in one piece.

use crate::support::batch::{Job, chat};
use crate::support::chat as interactive;
use crate::support::run;
use crate::support::serve::{Server, chat_body};
use serde_json::{Value, json};

#[test]
fn answers_like_openai() {
    let server = Server::start(&["--alias", "tulu"]);
    let response = server.chat("Hello", r#""max_tokens": 8, "temperature": 0, "user": "u""#);
    assert_eq!(response.status, 200, "{response:?}");
    assert!(response.head.contains("content-type: application/json"), "{}", response.head);
    let body = response.json();
    assert_eq!((&body["object"], &body["model"]), (&json!("chat.completion"), &json!("tulu")));
    assert!(body["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert!(body["system_fingerprint"].as_str().unwrap().starts_with("fp_"));
    let choice = &body["choices"][0];
    assert_eq!((&choice["index"], &choice["message"]["role"]), (&json!(0), &json!("assistant")));
    let usage = &body["usage"];
    let count = |name: &str| usage[name].as_u64().unwrap();
    assert_eq!(count("total_tokens"), count("prompt_tokens") + count("completion_tokens"));
    assert!(count("completion_tokens") <= 8);

    let models = server.get("/v1/models").json();
    assert_eq!((&models["object"], &models["data"][0]["id"]), (&json!("list"), &json!("tulu")));
    assert_eq!(server.get("/v1/models/tulu").json()["id"], "tulu");
    assert_eq!(server.get("/v1/models/other").status, 404);
    assert_eq!(server.get("/health").json()["status"], "ok");
}

/// Messages of several kinds, with the parameters of a greedy answer.
fn conversations() -> Vec<Value> {
    let user = |text: &str| json!({"role": "user", "content": text});
    vec![
        json!([user("Hello")]),
        json!([{"role": "system", "content": "Be brief.\n"}, user("What is 2 and 3?")]),
        json!([user("What is 1 and 2?"), {"role": "assistant", "content": "3."}, user(" And </s> 4?\n")]),
        json!([{"role": "user", "content": [{"type": "text", "text": "é"}, {"type": "text", "text": "😀"}]}]),
    ]
}

#[test]
fn greedy_answers_are_those_of_batch() {
    let record =
        |(i, messages): (usize, Value)| chat(&format!("r{i}"), "", &json!({"messages": messages, "max_tokens": 24}));
    let job = Job::new(&conversations().into_iter().enumerate().map(record).collect::<Vec<_>>());
    assert_eq!(job.run(&["-np", "1"]).0, Some(0));
    let server = Server::start(&["-np", "1"]);
    for (messages, record) in conversations().into_iter().zip(job.records()) {
        let body = json!({"messages": messages, "max_tokens": 24, "temperature": 0});
        let response = server.post("/v1/chat/completions", &body.to_string());
        let expected = &record["response"]["body"];
        assert_eq!(response.json()["choices"], expected["choices"], "{messages}");
        assert_eq!(response.json()["usage"]["total_tokens"], expected["usage"]["total_tokens"]);
    }
}

#[test]
fn greedy_answers_are_those_of_chat() {
    let server = Server::start(&[]);
    for question in ["Hello", "What is 2 and 3?", "é 😀 </s>"] {
        let args = ["--temp", "0", "-n", "24", "-c", "512", "-p", question];
        let output = run(&mut interactive::chat(&args), b"");
        let answer = server.chat(question, r#""max_tokens": 24, "temperature": 0"#).answer();
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim_end_matches('\n'), answer.trim_end_matches('\n'));
    }
}

#[test]
fn several_answers_and_log_probabilities() {
    let server = Server::start(&[]);
    let response = server
        .chat("Hello", r#""max_tokens": 6, "n": 3, "temperature": 4, "top_k": 0, "top_p": 1, "seed": 7, "logprobs": true, "top_logprobs": 2"#);
    let body = response.json();
    let choices = body["choices"].as_array().unwrap();
    assert_eq!(choices.iter().map(|choice| choice["index"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(choices.iter().any(|choice| choice["message"] != choices[0]["message"]), "{body}");
    for choice in choices {
        let tokens = choice["logprobs"]["content"].as_array().unwrap();
        let text: String = tokens.iter().map(|token| token["token"].as_str().unwrap()).collect();
        assert!(text.contains(choice["message"]["content"].as_str().unwrap().trim()), "{choice}");
        assert!(tokens.iter().all(|token| token["top_logprobs"].as_array().unwrap().len() == 2));
    }
    // The same seed gives the same answers, as long as the last bits of the logits do not matter.
    let seeded =
        |seed: u32| server.chat("Hello", &format!(r#""max_tokens": 6, "temperature": 1, "seed": {seed}"#)).answer();
    assert_eq!(seeded(7), seeded(7));
    // Greedy answers are equal: one is computed, and all count.
    let greedy = server.chat("Hello", r#""max_tokens": 6, "n": 3, "temperature": 0"#).json();
    assert_eq!(greedy["choices"].as_array().unwrap().len(), 3);
    let one = server.chat("Hello", r#""max_tokens": 6, "temperature": 0"#).json();
    let tokens = |body: &Value| body["usage"]["completion_tokens"].as_u64().unwrap();
    assert_eq!(tokens(&greedy), 3 * tokens(&one));
}

#[test]
fn completes_texts_and_token_ids() {
    let server = Server::start(&[]);
    let text = |prompt: &str| {
        let body = format!(r#"{{"prompt": {prompt}, "max_tokens": 5, "temperature": 0, "logprobs": 1}}"#);
        server.post("/v1/completions", &body).json()
    };
    let one = text(r#""<|user|>\nHello\n<|assistant|>\n""#);
    assert_eq!(one["object"], "text_completion");
    assert!(one["id"].as_str().unwrap().starts_with("cmpl-"));
    assert_eq!(one["choices"][0]["logprobs"]["text_offset"][0], 0);
    let chat = server.chat("Hello", r#""max_tokens": 5, "temperature": 0"#).answer();
    assert_eq!(one["choices"][0]["text"], chat.as_str());
    let several = text(r#"["a", "b"]"#);
    assert_eq!(several["choices"].as_array().unwrap().len(), 2);
    assert_eq!(text("[1, 415]")["usage"]["prompt_tokens"], 2);
}

#[test]
fn parameters_change_the_answer() {
    let server = Server::start(&[]);
    let answer = |extra: &str| server.chat("Hello", &format!(r#""max_tokens": 12, "temperature": 0, {extra}"#));
    let plain = answer(r#""seed": 1"#).answer();
    let first: String = plain.trim().chars().take(3).collect();
    let stopped = answer(&format!(r#""stop": [{}]"#, Value::from(first.as_str())));
    assert!(!stopped.answer().contains(&first), "{stopped:?}");
    assert_eq!(stopped.json()["choices"][0]["finish_reason"], "stop");
    // A bias of 100 makes one token win every time.
    let body = answer(r#""logit_bias": {"100": 100}, "logprobs": true"#).json();
    let tokens = body["choices"][0]["logprobs"]["content"].as_array().unwrap();
    assert!(tokens.len() == 12 && tokens.iter().all(|token| token["token"] == tokens[0]["token"]), "{body}");
    assert_eq!(body["choices"][0]["finish_reason"], "length");
    assert_eq!(answer(r#""logit_bias": {"999999": 1}"#).status, 400);
    let defaults = server.post("/v1/chat/completions", &chat_body("Hello", r#""max_completion_tokens": 4"#));
    assert!(defaults.json()["usage"]["completion_tokens"].as_u64().unwrap() <= 4);
}
