//! Parsing of valid lines, and the error codes of invalid ones.

use super::parse;
use crate::api::{PromptInput, RequestOptions, Seed};
use crate::engine::Token;
use crate::prompt::{Message, Role};
use serde_json::{Value, json};

fn line(url: &str, body: Value, extra: &Value) -> Vec<u8> {
    let mut body = body;
    if let (Some(body), Some(extra)) = (body.as_object_mut(), extra.as_object()) {
        body.extend(extra.clone());
    }
    json!({"custom_id": "a", "method": "POST", "url": url, "body": body}).to_string().into_bytes()
}

fn chat(extra: &Value) -> Vec<u8> {
    line("/v1/chat/completions", json!({"model": "m", "messages": [{"role": "user", "content": "Hello"}]}), extra)
}

fn text(extra: &Value) -> Vec<u8> {
    line("/v1/completions", json!({"prompt": "Once"}), extra)
}

fn code(line: &[u8]) -> &'static str {
    parse(line).map_or_else(|error| error.code, |_| "ok")
}

#[test]
fn parses_a_record() {
    let line = chat(&json!({
        "max_completion_tokens": 7, "max_tokens": 7, "temperature": 0.5, "top_p": 0.9, "top_k": 3, "seed": -1,
        "stop": "END", "n": 2, "logit_bias": {"5": -100, "7": 1.5}, "logprobs": true, "top_logprobs": 5, "user": "x", "tools": [], "frequency_penalty": 0.5,
        "presence_penalty": -1, "min_p": 0.1, "repetition_penalty": 1.1, "repeat_last_n": -1, "response_format": {"type": "text"},
        "stream": false, "stream_options": {"include_usage": true}, "ignore_eos": false,
    }));
    let record = parse(&line).unwrap();
    assert_eq!((record.id.as_deref(), record.model.as_deref()), (Some("a"), Some("m")));
    assert_eq!(record.prompts, [PromptInput::Chat(vec![Message::new(Role::User, "Hello")])]);
    let expected = RequestOptions {
        n: Some(2),
        max_tokens: Some(7),
        temperature: Some(0.5),
        top_p: Some(0.9),
        top_k: Some(3),
        min_p: Some(0.1),
        repetition_penalty: Some(1.1),
        repeat_last_n: Some(65_536),
        presence_penalty: Some(-1.0),
        frequency_penalty: Some(0.5),
        logit_bias: vec![(Token::new(5), -100.0), (Token::new(7), 1.5)],
        seed: Seed::Given(u32::MAX - 1),
        stop: vec!["END".into()],
        logprobs: Some(5),
        ..RequestOptions::default()
    };
    assert_eq!(record.options, expected);
    let options = |line: &[u8]| parse(line).unwrap().options;
    assert_eq!(options(&text(&json!({"logprobs": 0}))).logprobs, Some(0));
    assert_eq!(options(&chat(&json!({"logprobs": true}))).logprobs, Some(0));
    assert_eq!(options(&chat(&json!({"top_logprobs": 0}))).logprobs, None, "no log probabilities requested");
    assert_eq!(options(&text(&json!({"add_special_tokens": false}))).add_bos, Some(false));
    assert_eq!(options(&chat(&json!({"add_special_tokens": false}))).add_bos, None);
    assert_eq!(options(&chat(&json!({"logprobs": false, "top_k": -1}))).top_k, Some(0));
}

#[test]
fn prompts_and_content_may_have_several_parts() {
    let prompts = |extra: &Value| parse(&text(extra)).unwrap().prompts;
    assert_eq!(prompts(&json!({"prompt": "a"})), [PromptInput::Text("a".into())]);
    assert_eq!(prompts(&json!({"prompt": ["a", "b"]})), [PromptInput::Text("a".into()), PromptInput::Text("b".into())]);
    let ids = |ids: &[i32]| PromptInput::Ids(ids.iter().map(|id| Token::new(*id)).collect());
    assert_eq!(prompts(&json!({"prompt": [1, 415]})), [ids(&[1, 415])]);
    assert_eq!(prompts(&json!({"prompt": [[1, 415], [7]]})), [ids(&[1, 415]), ids(&[7])]);
    let parts = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
    let messages = json!([{"role": "developer", "content": "s"}, {"role": "user", "content": parts}]);
    let expected = PromptInput::Chat(vec![Message::new(Role::System, "s"), Message::new(Role::User, "a\nb")]);
    assert_eq!(parse(&chat(&json!({"messages": messages}))).unwrap().prompts, [expected]);
    let exported = json!([{"role": "user", "content": "a", "name": "Ann"}, {"role": "assistant", "content": null}]);
    let expected = PromptInput::Chat(vec![Message::new(Role::User, "a"), Message::new(Role::Assistant, "")]);
    assert_eq!(parse(&chat(&json!({"messages": exported}))).unwrap().prompts, [expected]);
    for wrong in [json!({"role": "user", "content": null}), json!({"role": "user", "content": "a", "name": 7})] {
        assert_eq!(code(&chat(&json!({"messages": [wrong]}))), "invalid_messages", "{wrong}");
    }
    let image = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]);
    assert_eq!(code(&chat(&json!({"messages": image}))), "unsupported_content");
}

#[test]
fn every_bad_line_has_its_code() {
    let cases: &[(&[u8], &str)] = &[
        (b"", "empty_line"),
        (b" \r", "empty_line"),
        (b"{\"custom_id\":\"a\"", "bad_json"),
        (b"\xff", "invalid_utf8"),
        (b"[]", "invalid_record"),
        (b"{}", "invalid_custom_id"),
        (br#"{"custom_id":7}"#, "invalid_custom_id"),
        (br#"{"custom_id":""}"#, "invalid_custom_id"),
        (br#"{"custom_id":"a"}"#, "invalid_body"),
        (br#"{"custom_id":"a","method":"GET","body":{}}"#, "invalid_method"),
        (br#"{"custom_id":"a","url":"/v1/embeddings","body":{}}"#, "invalid_url"),
        (br#"{"custom_id":"a","url":"/v1/chat/completions","body":{}}"#, "missing_messages"),
        (br#"{"custom_id":"a","url":"/v1/chat/completions","body":{"messages":[]}}"#, "invalid_messages"),
        (br#"{"custom_id":"a","url":"/v1/completions","body":{}}"#, "missing_prompt"),
        (br#"{"custom_id":"a","url":"/v1/completions","body":{"prompt":[1,"a"]}}"#, "invalid_prompt"),
        (br#"{"custom_id":"a","url":"/v1/completions","body":{"prompt":[]}}"#, "invalid_prompt"),
        (br#"{"custom_id":"a","url":"/v1/completions","body":{"prompt":[[]]}}"#, "invalid_prompt"),
        (br#"{"custom_id":"a","url":"/v1/completions","body":{"prompt":[1.5]}}"#, "invalid_prompt"),
        (br#"{"custom_id":"a","url":"/v1/completions","body":{"prompt":[3000000000]}}"#, "invalid_prompt"),
    ];
    for (line, expected) in cases {
        assert_eq!(code(line), *expected, "{}", String::from_utf8_lossy(line));
    }
    assert_eq!(code(&[b"[".repeat(10_000), b"]".repeat(10_000)].concat()), "bad_json", "nesting is bounded");
    let spelled = String::from_utf8(chat(&json!({}))).unwrap();
    assert_eq!(code(spelled.replace("Hello", "\\ud800").as_bytes()), "bad_json");
    let nan = String::from_utf8(chat(&json!({"temperature": 1}))).unwrap();
    assert_eq!(code(nan.replace("\"temperature\":1", "\"temperature\":NaN").as_bytes()), "bad_json");
    let wrong_role = chat(&json!({"messages": [{"role": "narrator", "content": ""}]}));
    let error_record = parse(&wrong_role).unwrap_err();
    assert_eq!((error_record.code, error_record.id), ("invalid_messages", Some(json!("a"))));
    assert!(error_record.message.contains("role 'narrator'"));
}

#[test]
fn absurd_parameters_are_refused() {
    for extra in [
        json!({"max_tokens": 0}),
        json!({"max_tokens": -1}),
        json!({"max_tokens": 1_000_000_000_000_000_000_u64}),
        json!({"max_tokens": 1e18}),
        json!({"max_tokens": 1.5}),
        json!({"max_tokens": 1, "max_completion_tokens": 2}),
        json!({"n": 0}),
        json!({"n": 129}),
        json!({"temperature": "hot"}),
        json!({"temperature": -1}),
        json!({"temperature": 1e300}),
        json!({"top_p": 0}),
        json!({"top_p": 1.5}),
        json!({"top_k": -2}),
        json!({"seed": 1e30}),
        json!({"seed": "x"}),
        json!({"stop": ["a", "b", "c", "d", "e"]}),
        json!({"stop": [""]}),
        json!({"stop": 7}),
        json!({"presence_penalty": 2.1}),
        json!({"logit_bias": [1]}),
        json!({"logit_bias": {"a": 1}}),
        json!({"logit_bias": {"1": 101}}),
        json!({"logit_bias": {"1": "x"}}),
        json!({"frequency_penalty": "x"}),
        json!({"logprobs": 1}),
        json!({"logprobs": true, "top_logprobs": 21}),
        json!({"top_logprobs": 2}),
        json!({"repeat_penalty": 1.1, "repetition_penalty": 1.1}),
    ] {
        assert_eq!(code(&chat(&extra)), "invalid_parameter", "{extra}");
    }
    for extra in [
        json!({"logprobs": true}),
        json!({"logprobs": 6}),
        json!({"add_special_tokens": 1}),
        json!({"prompt": vec!["a"; 600], "n": 2}),
    ] {
        assert_eq!(code(&text(&extra)), "invalid_parameter", "{extra}");
    }
}

#[test]
fn what_is_not_supported_is_not_ignored() {
    for extra in [json!({"stream": true}), json!({"ignore_eos": true}), json!({"echo": true}), json!({"best_of": 2})] {
        assert_eq!(code(&chat(&extra)), "unsupported_parameter", "{extra}");
    }
    for extra in [json!({"max_token": 1}), json!({"no_such_thing": 1}), json!({"Temperature": 1})] {
        assert_eq!(code(&chat(&extra)), "unknown_parameter", "{extra}");
    }
    assert_eq!(code(&text(&json!({"top_logprobs": 1}))), "unknown_parameter");
    assert_eq!(code(&text(&json!({"tools": [{"function": {"name": "f"}}]}))), "unsupported_parameter");
    for extra in [json!({"tools": [{}]}), json!({"tool_choice": "required"})] {
        assert_eq!(code(&chat(&extra)), "invalid_parameter", "{extra}");
    }
}
