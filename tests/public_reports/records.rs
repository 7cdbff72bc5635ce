//! Records that users of other tools have. Counts of prompt tokens are those of Transformers 4.57.1 with the fixture's
//! vocabulary: `len(AutoTokenizer.from_pretrained("tests/fixtures/tulu-tiny")(prompt)["input_ids"])`, with
//! `add_special_tokens` as the record has it.

use crate::support::{demo_model, last_line, run, tulu_quant};
use serde_json::{Value, json};
use std::fs;

/// Runs one input. Returns the exit code, the last line of stderr and the records.
fn answered(name: &str, input: &[u8], flags: &[&str]) -> (Option<i32>, String, Vec<Value>) {
    let folder = tempfile::tempdir().unwrap();
    let (path, output) = (folder.path().join(name), folder.path().join("out.jsonl"));
    fs::write(&path, input).unwrap();
    let mut command = tulu_quant();
    command.arg("batch").arg(demo_model()).arg("-i").arg(&path).arg("-o").arg(&output);
    let done = run(command.args(["-c", "512", "-t", "1"]).args(flags), b"");
    let text = fs::read_to_string(&output).unwrap_or_default();
    let records = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (done.status.code(), last_line(&done), records)
}

fn completion(body: &Value) -> String {
    let mut body = body.clone();
    body["max_tokens"] = json!(1);
    json!({"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": body}).to_string()
}

fn chat(id: &str, content: &str) -> Value {
    let body = json!({"messages": [{"role": "user", "content": content}], "max_tokens": 1});
    json!({"custom_id": id, "method": "POST", "url": "/v1/chat/completions", "body": body})
}

/// llama.cpp#3734, vllm#2012: `</s>` in a raw prompt is the token. vLLM's `add_special_tokens: false` leaves BOS out.
#[test]
fn raw_prompts_have_the_tokens_of_transformers() {
    let turns = "<|user|>\nHello\n<|assistant|>\nHi there.</s>\n<|user|>\nBye\n<|assistant|>\n";
    let rows = [
        (json!({"prompt": turns}), 29),
        (json!({"prompt": turns.replace("</s>", "")}), 27),
        (json!({"prompt": ""}), 1),
        (json!({"prompt": "</s></s>"}), 3),
        (json!({"prompt": "x</s> y"}), 6),
        (json!({"prompt": "Hello"}), 3),
        (json!({"prompt": "Hello", "add_special_tokens": true}), 3),
        (json!({"prompt": "Hello", "add_special_tokens": false}), 2),
        (json!({"prompt": "a</s>b"}), 4),
        (json!({"prompt": "a</s>b", "add_special_tokens": false}), 3),
        (json!({"prompt": "<s>Hello"}), 4),
        (json!({"prompt": "<s>Hello", "add_special_tokens": false}), 3),
        (json!({"prompt": ["Hello", "a</s>b"]}), 7),
        (json!({"prompt": [1, 300, 301]}), 3),
        (json!({"prompt": [[1, 300], [1, 300, 301]]}), 5),
    ];
    for (body, expected) in rows {
        let (code, last, records) = answered("in.jsonl", completion(&body).as_bytes(), &[]);
        assert_eq!(code, Some(0), "{body}: {last}");
        assert_eq!(records[0]["response"]["body"]["usage"]["prompt_tokens"], expected, "{body}");
    }
    let tokens = |records: &[Value]| records[0]["response"]["body"]["usage"]["prompt_tokens"].as_u64().unwrap();
    // Content of a chat never becomes a special token.
    let of = |content: &str| tokens(&answered("in.jsonl", chat("a", content).to_string().as_bytes(), &[]).2);
    assert!(of("a</s>b") > of("ab") + 1);
    // Ids outside the vocabulary fail only their record.
    for ids in [json!([1, 1_000_000]), json!([-1])] {
        let (code, _, records) = answered("in.jsonl", completion(&json!({"prompt": ids})).as_bytes(), &[]);
        assert_eq!((code, &records[0]["error"]["code"]), (Some(1), &json!("invalid_prompt")), "{}", records[0]);
    }
}

/// microsoft/PyRIT#1479, microsoft/graphrag#2424; vLLM's run_batch: "Skip empty lines."
#[test]
fn blank_lines_are_skipped() {
    let record = chat("a", "Hello").to_string();
    let other = chat("b", "Hello").to_string();
    let question = |id: u64| json!({"question_id": id, "turns": ["Hello"]}).to_string();
    let instruction = json!({"instruction": "Hello"}).to_string();
    let rows = [
        ("in.jsonl", format!("{record}\n\n"), json!(["a"])),
        ("in.jsonl", format!("\n{record}\n \t\r\n\r\n{other}\n\n\n"), json!(["a", "b"])),
        ("in.jsonl", format!("\u{feff}\n{record}"), json!(["a"])),
        ("question.jsonl", format!("{}\n\n{}\n\n", question(1), question(2)), json!([1, 2])),
        ("set.jsonl", format!("{instruction}\n\n"), json!(["Hello"])),
        ("in.jsonl", "\n\n".to_owned(), json!([])),
    ];
    let id = |record: &Value| {
        let names = ["custom_id", "question_id", "instruction"];
        names.iter().find_map(|name| record.get(name)).cloned()
    };
    for (name, input, expected) in rows {
        let (code, last, records) = answered(name, input.as_bytes(), &["-n", "2"]);
        let ids: Vec<Option<Value>> = records.iter().map(id).collect();
        assert_eq!((code, json!(ids)), (Some(0), expected), "{input:?}: {last}");
    }
    // Empty lines of a text file count, and errors have the line number of the file.
    let (code, _, records) = answered("in.txt", b"Hello\n\nBye\n", &["-n", "2"]);
    let prompts: Vec<(&Value, &Value)> = records.iter().map(|r| (&r["prompt"], &r["error"]["code"])).collect();
    let null = Value::Null;
    assert_eq!(code, Some(1));
    assert_eq!(prompts, [(&json!("Hello"), &null), (&null, &json!("empty_line")), (&json!("Bye"), &null)]);
    let (_, _, records) = answered("in.jsonl", format!("{record}\n\n\nbroken\n").as_bytes(), &[]);
    assert_eq!(records[1]["error"]["line"], 4);
}

/// mkht/PSOpenAI#19 (PowerShell writes UTF-16), and records over several lines.
#[test]
fn unreadable_input_is_refused_once() {
    let records = json!([chat("a", "Hello"), chat("b", "Bye")]);
    let lines = format!("{}\n{}\n", records[0], records[1]);
    let utf16: Vec<u8> = format!("\u{feff}{lines}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    let rows = [
        ("in.jsonl", utf16.clone(), "error[ENCODING]", "is UTF-16, not UTF-8; save it as UTF-8"),
        ("in.jsonl", utf16[2..].to_vec(), "error[ENCODING]", "is UTF-16"),
        ("in.txt", utf16, "error[ENCODING]", "is UTF-16"),
        ("x.json", format!("{records:#}").into_bytes(), "error[FORMAT]", "looks like OpenAI batch lines"),
        ("x.jsonl", format!("{records:#}").into_bytes(), "error[FORMAT]", "put one record on each line"),
        ("x.json", records.to_string().into_bytes(), "error[FORMAT]", "are in a JSON array"),
        (
            "x.jsonl",
            format!("{:#}\n{:#}", records[0], records[1]).into_bytes(),
            "error[FORMAT]",
            "span several lines each",
        ),
    ];
    for (name, input, code, what) in rows {
        for flags in [&[][..], &["--format", "openai"]] {
            if name == "in.txt" && !flags.is_empty() {
                continue;
            }
            let (exit, last, records) = answered(name, &input, flags);
            assert_eq!((exit, records.len()), (Some(2), 0), "{name} {flags:?}: {last}");
            assert!(last.contains(code) && last.contains(what) && last.contains(name), "{last}");
        }
    }
}
