//! `/tokenize`, `/detokenize`, `/apply-template` and `/metrics`.

use crate::support::demo_model;
use crate::support::serve::Server;
use crate::support::{run, tulu_quant};
use serde_json::{Value, json};

#[test]
fn texts_and_tokens_are_converted_both_ways() {
    let server = Server::start(&[]);
    let post = |path: &str, body: &Value| server.post(path, &body.to_string());
    let tokens = |body: Value| post("/tokenize", &body).json()["tokens"].clone();
    let plain = tokens(json!({"content": "Hello é</s>"}));
    assert_eq!(plain.as_array().unwrap().last(), Some(&json!(2)), "{plain}");
    let with_bos = tokens(json!({"content": "Hello é</s>", "add_special": true}));
    assert_eq!(with_bos[0], 1);
    let text_only = tokens(json!({"content": "</s>", "parse_special": false}));
    assert!(!text_only.as_array().unwrap().contains(&json!(2)), "{text_only}");
    let pieces = tokens(json!({"content": "Hello é", "with_pieces": true}));
    assert_eq!(pieces[0]["id"], plain[0]);
    let back = post("/detokenize", &json!({"tokens": plain})).json();
    assert_eq!(back["content"].as_str().unwrap().trim_start(), "Hello é</s>");
    for (path, body) in [
        ("/tokenize", json!({"content": 1})),
        ("/tokenize", json!({"contents": "a"})),
        ("/detokenize", json!({"tokens": [99_999_999]})),
        ("/detokenize", json!({"tokens": "a"})),
        ("/apply-template", json!({"messages": []})),
    ] {
        let response = post(path, &body);
        assert_eq!(response.status, 400, "{path} {body}: {}", response.body);
    }
}

#[test]
fn the_template_is_that_of_prompt() {
    let server = Server::start(&[]);
    let messages = json!([{"role": "system", "content": "s"}, {"role": "user", "content": "Hello </s>\n"}]);
    let mut command = tulu_quant();
    command.arg("prompt").arg(demo_model()).args(["-i", "-", "--json"]);
    let output = run(&mut command, messages.to_string().as_bytes());
    let expected: Value = serde_json::from_slice(&output.stdout).unwrap();
    let prompt = server.post("/apply-template", &json!({"messages": messages}).to_string()).json();
    assert_eq!(prompt["prompt"], expected["text"]);
}

#[test]
fn metrics_count_what_happened() {
    let server = Server::start(&[]);
    let usage = server.chat("Hello", r#""max_tokens": 4, "temperature": 0"#).json()["usage"].clone();
    server.chat("Hello", r#""nonsense": 1"#);
    // the slot becomes idle just after the answer was sent
    let mut metrics = server.get("/metrics");
    let mut earlier_reads = 0.0;
    for _ in 0..500 {
        if metrics.body.contains("tulu_quant_slots_busy 0") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
        metrics = server.get("/metrics");
        earlier_reads += 1.0;
    }
    assert!(metrics.head.contains("text/plain; version=0.0.4"), "{}", metrics.head);
    let value = |name: &str| {
        let line = metrics.body.lines().find_map(|line| line.strip_prefix(&format!("tulu_quant_{name} ")));
        line.unwrap_or_else(|| panic!("{name}: {}", metrics.body)).parse::<f64>().unwrap()
    };
    assert_eq!(value("answers_total"), 1.0);
    assert_eq!(value("prompt_tokens_total"), usage["prompt_tokens"].as_f64().unwrap());
    assert_eq!(value("completion_tokens_total"), usage["completion_tokens"].as_f64().unwrap());
    assert_eq!((value("slots"), value("slots_busy"), value("queue_length")), (4.0, 0.0, 0.0));
    assert_eq!(value("responses_total{status=\"200\"}"), 1.0 + earlier_reads);
    assert_eq!(value("responses_total{status=\"400\"}"), 1.0);
}
