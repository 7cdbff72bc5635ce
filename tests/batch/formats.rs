//! The formats of `tulu-quant batch`: inputs as OpenAI's clients, AlpacaEval and FastChat write them, and outputs with
//! exactly the fields that their readers need.

use crate::support::batch::{Job, chat, expected_ids, ids, many};
use crate::support::checkpoint::listing;
use crate::support::{demo_model, last_line, run, tulu_quant};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Stdio;

fn lines(values: &[Value]) -> Vec<Vec<u8>> {
    values.iter().map(|value| value.to_string().into_bytes()).collect()
}

fn names(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Runs `input` in a folder of its own. Returns the output and the manifest.
fn answered(input: &str, name: &str, output: &str, flags: &[&str]) -> (String, Value) {
    let folder = tempfile::tempdir().unwrap();
    let (input_path, output_path) = (folder.path().join(name), folder.path().join(output));
    fs::write(&input_path, input).unwrap();
    let mut command = tulu_quant();
    command.arg("batch").arg(demo_model()).arg("-i").arg(&input_path).arg("-o").arg(&output_path);
    let done = run(command.args(["-c", "512", "-t", "1"]).args(flags), b"");
    assert_eq!(done.status.code(), Some(0), "{}", last_line(&done));
    let manifest = fs::read(folder.path().join(format!("{output}.manifest.json"))).unwrap();
    (fs::read_to_string(output_path).unwrap(), serde_json::from_slice(&manifest).unwrap())
}

#[test]
fn openai_response_has_the_fields_of_the_api() {
    let text = json!({"custom_id": "t", "method": "POST", "url": "/v1/completions", "body": {
        "prompt": ["Once upon a time", "Hello"], "max_tokens": 4, "logprobs": 2}});
    let job = Job::new(&[
        chat("plain", "What is the capital of France?", &json!({"max_tokens": 16})),
        chat("many", "Tell me a story.", &json!({"n": 3, "temperature": 1.0, "logprobs": true, "top_logprobs": 4})),
        text.to_string().into_bytes(),
        chat("stop", "What is the capital of France?", &json!({"stop": " France", "max_tokens": 16})),
    ]);
    assert_eq!(job.run(&[]).0, Some(0));
    let records = job.records();
    assert_eq!(names(&records[0]), ["id", "custom_id", "response", "error"]);
    assert_eq!(names(&records[0]["response"]), ["status_code", "request_id", "body"]);
    let body = |i: usize| &records[i]["response"]["body"];
    let fields = ["id", "object", "created", "model", "choices", "usage", "system_fingerprint"];
    assert_eq!(names(body(0)), fields);
    let choice = &body(0)["choices"][0];
    assert_eq!(names(choice), ["index", "message", "logprobs", "finish_reason"]);
    assert_eq!(choice["message"]["content"], "The capital of France is Paris.");
    assert_eq!(choice["finish_reason"], "stop");
    assert_eq!(body(3)["choices"][0]["message"]["content"], "The capital of");

    let choices = body(1)["choices"].as_array().unwrap();
    assert_eq!(choices.iter().map(|choice| choice["index"].as_u64()).collect::<Vec<_>>(), [Some(0), Some(1), Some(2)]);
    let texts: Vec<&str> = choices.iter().map(|choice| choice["message"]["content"].as_str().unwrap()).collect();
    assert!(texts[0] != texts[1] || texts[1] != texts[2], "each has random numbers of its own: {texts:?}");
    for choice in choices {
        let tokens = choice["logprobs"]["content"].as_array().unwrap();
        let bytes: Vec<u8> = tokens
            .iter()
            .flat_map(|token| token["bytes"].as_array().unwrap())
            .map(|byte| u8::try_from(byte.as_u64().unwrap()).unwrap())
            .collect();
        assert_eq!(String::from_utf8(bytes).unwrap(), choice["message"]["content"].as_str().unwrap());
        for token in tokens {
            let logprob = token["logprob"].as_f64().unwrap();
            let top: Vec<f64> =
                token["top_logprobs"].as_array().unwrap().iter().map(|t| t["logprob"].as_f64().unwrap()).collect();
            assert!(top.len() == 4 && top.is_sorted_by(|a, b| a >= b) && logprob <= top[0], "{token}");
            assert!(top.iter().map(|logprob| logprob.exp()).sum::<f64>() < 1.000_01);
        }
    }
    let usage = |i: usize, name: &str| body(i)["usage"][name].as_u64().unwrap();
    assert_eq!(usage(1, "completion_tokens"), 24, "of all three");
    assert!(usage(1, "prompt_tokens") < 24, "the prompt counts once");

    let choices = body(2)["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 2);
    for choice in choices {
        let logprobs = &choice["logprobs"];
        assert_eq!(names(logprobs), ["tokens", "token_logprobs", "top_logprobs", "text_offset"]);
        let tokens: Vec<&str> = logprobs["tokens"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
        assert_eq!(tokens.concat(), choice["text"].as_str().unwrap());
        let offsets = (0..tokens.len()).map(|i| tokens[..i].concat().chars().count()).collect::<Vec<_>>();
        assert_eq!(logprobs["text_offset"], json!(offsets));
        assert!((2..=3).contains(&logprobs["top_logprobs"][0].as_object().unwrap().len()));
    }
}

#[test]
fn greedy_takes_the_first_of_the_top_log_probabilities() {
    let ask = json!({"logprobs": true, "top_logprobs": 1, "max_tokens": 12});
    let job = Job::new(&[chat("a", "What is 2 plus 3?", &ask)]);
    assert_eq!(job.run(&[]).0, Some(0));
    for token in job.records()[0]["response"]["body"]["choices"][0]["logprobs"]["content"].as_array().unwrap() {
        assert_eq!(token["token"], token["top_logprobs"][0]["token"]);
        assert_eq!(token["logprob"], token["top_logprobs"][0]["logprob"]);
    }
}

#[test]
fn penalties_change_the_answer() {
    let ask = |id: &str, extra: Value| {
        let mut body = json!({"max_tokens": 60});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        chat(id, "Tell me a story about a dog.", &body)
    };
    let job = Job::new(&[
        ask("none", json!({})),
        ask("frequency", json!({"frequency_penalty": 2})),
        ask("presence", json!({"presence_penalty": 2})),
        ask("repetition", json!({"repetition_penalty": 1.5})),
    ]);
    assert_eq!(job.run(&[]).0, Some(0));
    let texts: Vec<String> = job
        .records()
        .iter()
        .map(|record| record["response"]["body"]["choices"][0]["message"]["content"].as_str().unwrap().to_owned())
        .collect();
    for i in 1..4 {
        assert_ne!(texts[0], texts[i]);
    }
}

#[test]
fn alpaca_eval_input_gives_alpaca_eval_output() {
    let set = json!([
        {"dataset": "helpful_base", "instruction": "What is the capital of France?", "output": "Paris", "generator": "gpt4"},
        {"dataset": "koala", "instruction": "Greet.\n\nNow!", "output": "x", "generator": "gpt4", "datasplit": "eval"},
        {"instruction": "Say it", "input": "in French"},
    ]);
    let (text, manifest) = answered(&format!("{set:#}"), "alpaca_eval.json", "out.json", &["--generator", "mine"]);
    let out: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(names(&out[0]), ["instruction", "output", "generator", "dataset"]);
    assert_eq!(out[0]["output"], "The capital of France is Paris.");
    assert_eq!((&out[0]["generator"], &out[1]["datasplit"]), (&json!("mine"), &json!("eval")));
    assert_eq!(out[1]["instruction"], "Greet.\n\nNow!");
    assert_eq!(names(&out[2]), ["instruction", "output", "generator", "input"]);
    assert_eq!(manifest["format"], "alpaca-eval");

    // JSON lines as input and output, as in Tulu's own evaluation: the same records.
    let input: String = set.as_array().unwrap().iter().map(|item| format!("{item}\n")).collect();
    let (lines, _) = answered(&input, "set.jsonl", "out.jsonl", &["--generator", "mine"]);
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, out);
    assert_eq!(answered("[]", "set.json", "out.json", &[]).0, "[]\n");
}

#[test]
fn mt_bench_input_gives_a_fastchat_answer_file() {
    let question = |id: u64, category: &str| json!({"question_id": id, "category": category, "turns": ["What is the capital of France?", "And of Italy?"]});
    let input = [question(90, "math"), question(81, "writing"), question(85, "stem")];
    let text: String = input.iter().map(|line| format!("{line}\n")).collect();
    let (out, manifest) = answered(&text, "question.jsonl", "tulu.jsonl", &["--num-choices", "2", "-np", "2"]);
    let out: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ids: Vec<u64> = out.iter().map(|answer| answer["question_id"].as_u64().unwrap()).collect();
    assert_eq!(ids, [81, 85, 90]);
    for answer in &out {
        assert_eq!(names(answer), ["question_id", "answer_id", "model_id", "choices", "tstamp"]);
        assert_eq!(answer["answer_id"].as_str().unwrap().len(), 22);
        assert!(answer["tstamp"].is_f64());
        let choices = answer["choices"].as_array().unwrap();
        assert_eq!(choices.len(), 2);
        for (i, choice) in choices.iter().enumerate() {
            assert_eq!((names(choice), choice["index"].as_u64()), (vec!["index", "turns"], Some(i as u64)));
            assert_eq!(choice["turns"].as_array().unwrap().len(), 2);
        }
    }
    assert_eq!(out[2]["choices"][0]["turns"][0], "The capital of France is Paris.");
    assert_eq!(out[2]["choices"][0]["turns"][1], "The capital of Italy is Rome.", "it saw its first answer");
    assert_eq!(out[2]["choices"][0]["turns"], out[2]["choices"][1]["turns"], "math is greedy");
    assert_eq!(manifest["parameters"]["max_tokens"], 1024);
}

#[test]
fn text_lines_are_prompts() {
    let (out, _) = answered("What is the capital of France?\r\nHello\n", "prompts.txt", "out.jsonl", &["-n", "12"]);
    let out: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        out[0],
        json!({"prompt": "What is the capital of France?", "output": "The capital of France is Paris.", "error": null})
    );
    assert_eq!((out.len(), &out[1]["prompt"], &out[1]["error"]), (2, &json!("Hello"), &Value::Null));
}

#[test]
fn judge_formats_write_errors_to_a_separate_file() {
    let questions = lines(&[
        json!({"question_id": 2, "category": "math", "turns": ["Hello"]}),
        json!({"question_id": 1, "category": "math", "turns": "Hello"}),
        json!({"question_id": 2, "category": "math", "turns": ["Bye"]}),
        json!({"question_id": 3, "category": "math", "turns": ["Hello", "word ".repeat(3000)]}),
    ]);
    let job = Job::new(&questions);
    let (code, last) = job.run(&["-n", "8"]);
    assert_eq!(code, Some(1), "{last}");
    let answered: Vec<Value> = job.records().iter().map(|record| record["question_id"].clone()).collect();
    assert_eq!(answered, [2]);
    let errors = fs::read_to_string(job.folder.path().join("out.jsonl.errors")).unwrap();
    let errors: Vec<Value> = errors.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let seen: Vec<_> =
        errors.iter().map(|e| (e["error"]["line"].as_u64().unwrap(), e["error"]["code"].as_str().unwrap())).collect();
    assert_eq!(seen, [(2, "invalid_turns"), (3, "duplicate_custom_id"), (4, "context_length_exceeded")]);
    assert!(errors[2]["error"]["message"].as_str().unwrap().starts_with("turn 2: "), "{}", errors[2]);
}

#[test]
fn stdin_and_stdout_make_a_pipe() {
    let input = [many(5).join(&b'\n'), b"{broken".to_vec(), many(6)[5].clone()].join(&b'\n');
    let mut command = tulu_quant();
    command.args(["batch"]).arg(demo_model()).args(["-i", "-", "-o", "-", "-c", "512", "-t", "1", "-n", "8"]);
    let done = run(&mut command, &input);
    assert_eq!(done.status.code(), Some(1), "{}", last_line(&done));
    let text = String::from_utf8(done.stdout).unwrap();
    let ids: Vec<Value> =
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["custom_id"].clone()).collect();
    assert_eq!(json!(ids), json!(["r0", "r1", "r2", "r3", "r4", null, "r5"]), "in the order of the input");

    // If the reader of stdout leaves, the run ends without an error.
    let job = Job::new(&many(200));
    let mut command = job.command(&[]);
    let args: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let args = args.into_iter().map(|arg| if Path::new(&arg) == job.output() { "-".into() } else { arg });
    command = tulu_quant();
    let mut child = command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut first).unwrap();
    assert!(first.contains("\"r0\""), "{first}");
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(0), "{}", last_line(&done));
    assert_eq!(last_line(&done), "");
    assert_eq!(listing(job.folder.path()), ["in.jsonl"], "nothing is kept");
}

#[test]
fn stdin_with_an_output_file_has_a_journal() {
    let job = Job::new(&many(4));
    let mut command = tulu_quant();
    command.arg("batch").arg(demo_model()).args(["-i", "-", "-c", "512", "-t", "1", "-o"]).arg(job.output());
    let done = run(command.arg("--json"), &many(4).join(&b'\n'));
    assert_eq!(done.status.code(), Some(0), "{}", last_line(&done));
    let summary: Value = serde_json::from_slice(&done.stdout).unwrap();
    let fields = [
        "output",
        "manifest",
        "records",
        "answered",
        "failed",
        "resumed",
        "length",
        "prompt_tokens",
        "cached_tokens",
        "completion_tokens",
        "seconds",
        "tokens_per_second",
        "drafts",
    ];
    assert_eq!(names(&summary), fields);
    assert_eq!(ids(&job.records()), expected_ids(4));
    assert_eq!(listing(job.folder.path()), ["in.jsonl", "out.jsonl", "out.jsonl.manifest.json"]);
}

#[test]
fn undetectable_format_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("prompts");
    fs::write(&input, "Hello\n").unwrap();
    let refused = |flags: &[&str], stdin: &[u8]| {
        let mut command = tulu_quant();
        command.arg("batch").arg(demo_model()).arg("-o").arg(folder.path().join("out")).args(flags);
        let done = run(&mut command, stdin);
        assert_eq!(done.status.code(), Some(2), "{}", last_line(&done));
        last_line(&done)
    };
    let path = input.to_str().unwrap();
    assert!(refused(&["-i", path], b"").contains("error[FORMAT]"));
    assert!(refused(&["-i", "-"], b"Hello").contains("error[FORMAT]"));
    assert!(refused(&["-i", path, "--format", "csv"], b"").contains("error[USAGE]"));
    assert!(refused(&["-i", path, "--format", "mt-bench", "--temp", "0"], b"").contains("error[FLAGS]"));
    assert!(refused(&["-i", path, "--format", "text", "--restart", "--retry-errors"], b"").contains("error[FLAGS]"));
    assert!(refused(&["-i", path, "--format", "text", "--shard", "3/2"], b"").contains("error[SHARD]"));
    let array = folder.path().join("set.json");
    fs::write(&array, "[{\"instruction\": \"a\"}").unwrap();
    assert!(refused(&["-i", array.to_str().unwrap()], b"").contains("error[INPUT_JSON]"));
    let mut command = tulu_quant();
    command.arg("batch").arg(demo_model()).args(["-i", path, "--format", "text", "-o", "-", "--json"]);
    assert!(last_line(&run(&mut command, b"")).contains("error[FLAGS]"));
}
