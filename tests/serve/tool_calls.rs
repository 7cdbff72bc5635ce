//! Tool calls, in OpenAI's and in ollama's API and in batch.

use crate::support::batch::{Job, chat};
use crate::support::serve::Server;
use serde_json::{Value, json};

fn tools() -> Value {
    let parameters = json!({
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 12}, "days": {"type": "integer", "minimum": 1, "maximum": 7}},
        "required": ["city", "days"],
    });
    let weather = json!({"name": "get_weather", "description": "The weather of a city.", "parameters": parameters});
    json!([{"type": "function", "function": weather}, {"type": "function", "function": {"name": "now"}}])
}

fn body(more: &Value) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 500, "tools": tools()});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn assert_valid_call(name: &str, arguments: &str) {
    let value: Value = serde_json::from_str(arguments).unwrap_or_else(|err| panic!("{err}: {arguments}"));
    match name {
        "get_weather" => {
            assert!(value["city"].as_str().is_some_and(|city| city.chars().count() <= 12), "{arguments}");
            assert!(value["days"].as_u64().is_some_and(|days| (1..=7).contains(&days)), "{arguments}");
        }
        "now" => assert_eq!(value, json!({})),
        _ => panic!("{name}"),
    }
}

/// Joins the deltas of a stream: the text, the calls (name, arguments), and the last reason.
fn joined(events: &[String]) -> (String, Vec<(String, String)>, String) {
    let (mut text, mut calls, mut reason) = (String::new(), Vec::new(), String::new());
    for event in events.iter().filter(|event| *event != "[DONE]") {
        let choice = serde_json::from_str::<Value>(event).unwrap()["choices"][0].clone();
        text += choice["delta"]["content"].as_str().unwrap_or_default();
        for call in choice["delta"]["tool_calls"].as_array().into_iter().flatten() {
            let index = usize::try_from(call["index"].as_u64().unwrap()).unwrap();
            if index == calls.len() {
                assert!(call["id"].as_str().is_some_and(|id| id.starts_with("call")), "{call}");
                assert_eq!(call["type"], "function");
                calls.push((call["function"]["name"].as_str().unwrap().to_owned(), String::new()));
            }
            calls[index].1 += call["function"]["arguments"].as_str().unwrap();
        }
        reason = choice["finish_reason"].as_str().map_or(reason, str::to_owned);
    }
    (text, calls, reason)
}

#[test]
fn required_and_named_calls_follow_their_schema() {
    let server = Server::start(&["-c", "1024"]);
    let post = |more: Value| server.post("/v1/chat/completions", &body(&more).to_string());
    let named = json!({"type": "function", "function": {"name": "get_weather"}});
    for (i, choice) in [json!("required"), named.clone(), json!("required"), named].into_iter().enumerate() {
        let temperature = [0.0, 1.5][i / 2];
        let more = json!({"tool_choice": choice, "temperature": temperature, "seed": i, "parallel_tool_calls": false});
        let answer = post(more.clone()).json()["choices"][0].clone();
        assert_eq!(
            (&answer["finish_reason"], &answer["message"]["content"]),
            (&json!("tool_calls"), &Value::Null),
            "{answer}"
        );
        let calls = answer["message"]["tool_calls"].as_array().unwrap();
        assert_eq!(calls.len(), 1);
        let call = &calls[0]["function"];
        let (name, arguments) = (call["name"].as_str().unwrap(), call["arguments"].as_str().unwrap());
        assert_valid_call(name, arguments);
        assert!(choice == "required" || name == "get_weather");

        let mut streamed = more;
        streamed["stream"] = true.into();
        let (text, streamed, reason) = joined(&post(streamed).events());
        assert_eq!((text.as_str(), reason.as_str()), ("", "tool_calls"));
        let [(name, arguments)] = streamed.as_slice() else { panic!("{streamed:?}") };
        assert_valid_call(name, arguments);
    }
    let cut = post(json!({"tool_choice": "required", "max_tokens": 25})).json()["choices"][0].clone();
    assert_eq!(cut["finish_reason"], "length", "{cut}");
}

#[test]
fn several_calls_have_an_index_each() {
    let server = Server::start(&["-c", "1024"]);
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    // Without the end of the answer, only another call may follow.
    let more = json!({"tools": tools, "tool_choice": "required", "logit_bias": {"2": -100}, "stream": true, "max_tokens": 200});
    let (text, calls, reason) = joined(&server.post("/v1/chat/completions", &body(&more).to_string()).events());
    assert!(calls.len() > 1 && calls[..calls.len() - 1].iter().all(|(name, _)| name == "f"), "{calls:?}");
    assert_eq!((text.as_str(), reason.as_str()), ("", "length"));
}

#[test]
fn auto_answers_in_words_or_with_valid_calls() {
    let server = Server::start(&["-c", "1024"]);
    let post = |more: Value| server.post("/v1/chat/completions", &body(&more).to_string()).json();
    let plain = post(json!({"tool_choice": "none", "temperature": 0, "max_tokens": 10}));
    let described = post(json!({"temperature": 0, "max_tokens": 10}));
    let n_prompt = |response: &Value| response["usage"]["prompt_tokens"].as_u64().unwrap();
    assert!(n_prompt(&described) > n_prompt(&plain) + 50, "the functions are in the prompt");
    let without = server.chat("Hello", r#""temperature": 0, "max_tokens": 10"#).json();
    assert_eq!(plain["choices"][0]["message"], without["choices"][0]["message"]);
    assert!(!described["choices"][0]["message"]["content"].as_str().unwrap().is_empty(), "{described}");

    let schema = json!({"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]});
    let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
    for seed in 0..4 {
        let answer = post(json!({"response_format": format, "temperature": 2, "seed": seed}))["choices"][0].clone();
        match answer["message"]["tool_calls"].as_array() {
            Some(calls) => calls.iter().for_each(|call| {
                let call = &call["function"];
                assert_valid_call(call["name"].as_str().unwrap(), call["arguments"].as_str().unwrap());
            }),
            None => {
                let text = answer["message"]["content"].as_str().unwrap();
                assert!(serde_json::from_str::<Value>(text).unwrap()["a"].is_boolean(), "{text}");
            }
        }
    }
}

#[test]
fn calls_and_results_in_the_messages_become_text() {
    let server = Server::start(&[]);
    let call = |name: &str, arguments: &str| json!({"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}});
    let messages = json!([
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": null, "refusal": null, "tool_calls": [call("get_weather", "{\"city\": \"Rom\"}"), call("now", "")]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
        {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "noon"}]},
    ]);
    let prompt = server.post("/apply-template", &json!({"messages": messages}).to_string()).json();
    assert_eq!(
        prompt["prompt"],
        "<|user|>\nWeather?\n<|assistant|>\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Rom\"}}\n\
         </tool_call>\n<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call></s>\n<|user|>\n<tool_response>\nsunny\n\
         </tool_response>\n<tool_response>\nnoon\n</tool_response>\n<|assistant|>\n"
    );
    let system = json!({"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}], "tools": tools()});
    let prompt = server.post("/apply-template", &system.to_string()).json()["prompt"].clone();
    let prompt = prompt.as_str().unwrap();
    assert!(prompt.starts_with("<|system|>\nBe kind.\n\n") && prompt.contains("\"name\":\"get_weather\""), "{prompt}");
    for message in [
        json!({"role": "assistant", "tool_calls": 1}),
        json!({"role": "assistant", "tool_calls": [{"type": "custom"}]}),
        json!({"role": "assistant", "tool_calls": [{"function": {"arguments": "{}"}}]}),
        json!({"role": "tool", "tool_call_id": 1, "content": "a"}),
        json!({"role": "tool", "tool_call_id": "a"}),
        json!({"role": "tool", "tool_call_id": "a", "content": "a result without a call"}),
        json!({"role": "user", "content": "a", "tool_calls": [{}]}),
    ] {
        let response = server.post("/v1/chat/completions", &json!({"messages": [message]}).to_string());
        assert_eq!(
            (response.status, response.json()["error"]["code"].as_str()),
            (400, Some("invalid_messages")),
            "{message}"
        );
    }
}

#[test]
fn a_turn_after_a_call_does_not_read_its_prompt_again() {
    let server = Server::start(&["-c", "1024", "-np", "1"]);
    let more = json!({"tool_choice": "required", "parallel_tool_calls": false, "temperature": 0});
    let first = server.post("/v1/chat/completions", &body(&more).to_string()).json();
    let mut next = body(&json!({"temperature": 0, "max_tokens": 4}));
    let messages = next["messages"].as_array_mut().unwrap();
    let message = first["choices"][0]["message"].clone();
    let id = message["tool_calls"][0]["id"].clone();
    messages.extend([message, json!({"role": "tool", "tool_call_id": id, "content": "7"})]);
    let second = server.post("/v1/chat/completions", &next.to_string()).json();
    let usage = |response: &Value, name: &str| response["usage"][name].as_u64().unwrap();
    let cached = second["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
    // The text of the call may be tokenized differently.
    let all = usage(&first, "prompt_tokens");
    assert!(cached + 4 >= all, "{cached} of {all}");
}

#[test]
fn ollama_has_arguments_as_objects() {
    let server = Server::start(&["-c", "1024"]);
    // ollama has no tool_choice: a schema that allows nothing but a call is the only way to be sure of one.
    let tools = json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]);
    let call = json!({"function": {"name": "f", "arguments": {"a": 1}}});
    let messages = json!([
        {"role": "user", "content": "Hello"}, {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_name": "f", "content": "7"},
    ]);
    let body =
        json!({"messages": messages, "tools": tools, "stream": false, "options": {"num_predict": 8, "temperature": 0}});
    let answer = server.post("/api/chat", &body.to_string());
    assert_eq!(answer.status, 200, "{}", answer.body);
    let expected = json!({"messages": [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": null, "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}}]},
        {"role": "tool", "tool_call_id": "x", "content": "7"},
    ], "tools": tools, "max_tokens": 8, "temperature": 0});
    let expected = server.post("/v1/chat/completions", &expected.to_string()).json();
    assert_eq!(answer.json()["prompt_eval_count"], expected["usage"]["prompt_tokens"]);
    assert_eq!(answer.json()["message"]["content"], expected["choices"][0]["message"]["content"]);
}

#[test]
fn batch_calls_functions_too() {
    let job = Job::new(&[
        chat("a", "Hello", &json!({"max_tokens": 300, "tool_choice": "required", "tools": tools()})),
        chat("b", "Hello", &json!({"tools": [{"type": "x"}]})),
    ]);
    assert_eq!(job.run(&["-c", "1024"]).0, Some(1));
    let records = job.records();
    let choice = &records[0]["response"]["body"]["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls", "{choice}");
    let call = &choice["message"]["tool_calls"][0];
    assert!(call["id"].as_str().is_some_and(|id| id.starts_with("call_")), "{call}");
    assert_valid_call(call["function"]["name"].as_str().unwrap(), call["function"]["arguments"].as_str().unwrap());
    assert_eq!(records[1]["error"]["code"], "invalid_parameter");
}
