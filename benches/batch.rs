//! `tulu-quant batch` beside llama-server, on the same records, in turn, in one run.
//!
//! ```text
//! cargo bench --bench batch -- MODEL.gguf LLAMA_SERVER [SLOTS] [RECORDS] [ROUNDS]
//! ```
//!
//! LLAMA_SERVER is the path of a llama-server that is there already, built from the same llama.cpp for this processor. It
//! is started anew for each round, with the same slots, threads and window, and twice: with its weights rearranged for the
//! processor, as is its default, and as the file stores them (`--no-repack`); `batch` measures which is faster. A client
//! keeps the server's slots full, and its time does not count the loading. The time of `batch` counts everything from start
//! to exit. Both are greedy, up to 64 tokens an answer, and must have written about as many tokens. "alike": records that
//! begin with the same 650 tokens or so and end in 50 of their own; "each its own": records of about 50 tokens.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a bench stops at the first surprise"
)]

use serde_json::{Value, json};
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const ANSWER: usize = 64;
const WINDOW: usize = 1024;

fn main() {
    // cargo adds --bench
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let [model, server, rest @ ..] = args.as_slice() else {
        println!("usage: cargo bench --bench batch -- MODEL.gguf LLAMA_SERVER [SLOTS] [RECORDS] [ROUNDS]");
        return;
    };
    let number = |i: usize, default: usize| rest.get(i).map_or(default, |text| text.parse().expect("a number"));
    let (slots, records, rounds) = (number(0, 16), number(1, 64), number(2, 1));
    println!("{records} records, {slots} slots, {ANSWER} tokens each; seconds of each round");
    for (name, shared, own) in [("alike", 640, 46), ("each its own", 0, 42)] {
        let prompts: Vec<String> = (0..records).map(|i| prompt(shared, own, i)).collect();
        let mut rows = ["batch", "llama-server", "llama-server --no-repack"].map(|row| (row, Vec::new(), 0));
        for _ in 0..rounds {
            let sides = [
                llama_server(server, &[], model, slots, &prompts),
                llama_server(server, &["--no-repack"], model, slots, &prompts),
                batch(model, slots, &prompts),
            ];
            for ((_, seconds, tokens), side) in rows[1..].iter_mut().zip(&sides) {
                seconds.push(side.0);
                *tokens += side.1;
            }
            rows[0].1.push(sides[2].0);
            rows[0].2 += sides[2].1;
        }
        let (ours, written) = (median(&rows[0].1), rows[0].2);
        println!("{name}");
        for (row, seconds, tokens) in &rows {
            let ratio = median(seconds) / ours;
            println!("  {row:<25} {seconds:>7.1?} s, {tokens} tokens written; batch is {ratio:.2} times as fast");
            assert!(tokens.abs_diff(written) * 20 <= written, "{row} wrote {tokens} tokens and batch {written}");
        }
    }
}

/// `shared` words that every record begins with, and `own` that only this one has.
fn prompt(shared: usize, own: usize, record: usize) -> String {
    const WORDS: &[&str] = &["time", "year", "people", "way", "day", "man", "thing", "life", "world", "hand", "part"];
    let mut state = 0x9e37_79b9_u32;
    let mut word = |seed: u32| {
        state = (state ^ seed).wrapping_mul(0x85eb_ca6b).rotate_left(13);
        WORDS[state as usize % WORDS.len()]
    };
    let beginning: Vec<&str> = (0..shared).map(|_| word(1)).collect();
    let end: Vec<&str> = (0..own).map(|i| word(u32::try_from(record * 1000 + i).unwrap())).collect();
    format!("{} {}", beginning.join(" "), end.join(" "))
}

/// Seconds of `tulu-quant batch`, from its start to its end, and the tokens that it wrote.
fn batch(model: &str, slots: usize, prompts: &[String]) -> (f64, u64) {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in.jsonl"), folder.path().join("out.jsonl"));
    let line = |(i, text): (usize, &String)| {
        let messages = json!([{"role": "user", "content": text}]);
        json!({"custom_id": i.to_string(), "url": "/v1/chat/completions", "body": {"messages": messages}}).to_string()
    };
    fs::write(&input, prompts.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")).unwrap();
    let began = Instant::now();
    let status = Command::new(env!("CARGO_BIN_EXE_tulu-quant"))
        .args(["batch", model, "-n", &ANSWER.to_string(), "-np", &slots.to_string(), "-c", &WINDOW.to_string()])
        .args([Path::new("-i"), &input, Path::new("-o"), &output])
        .stderr(Stdio::null())
        .status();
    let seconds = began.elapsed().as_secs_f64();
    assert!(status.unwrap().success());
    let text = fs::read_to_string(output).unwrap();
    let tokens = text.lines().map(|line| {
        let record: Value = serde_json::from_str(line).unwrap();
        record["response"]["body"]["usage"]["completion_tokens"].as_u64().expect("an answer")
    });
    (seconds, tokens.sum())
}

/// Seconds from the first request to the last answer, and the tokens of the answers.
fn llama_server(program: &str, flags: &[&str], model: &str, slots: usize, prompts: &[String]) -> (f64, u64) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("http://127.0.0.1:{port}");
    let threads = std::thread::available_parallelism().unwrap();
    let server = Command::new(program)
        .args(flags)
        .args(["-m", model, "-np", &slots.to_string(), "-c", &(slots * WINDOW).to_string()])
        .args(["-t", &threads.to_string(), "--host", "127.0.0.1", "--port", &port.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _server = Stopped(server.expect("llama-server"));
    let deadline = Instant::now() + Duration::from_secs(120);
    while ureq::get(format!("{address}/health")).call().is_err() {
        assert!(Instant::now() < deadline, "llama-server does not answer");
        std::thread::sleep(Duration::from_millis(100));
    }
    let (waiting, written) = (Mutex::new(prompts.iter()), AtomicU64::new(0));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..slots {
            scope.spawn(|| {
                while let Some(text) = { waiting.lock().unwrap().next() } {
                    // Spelled out: its own rendering of Tulu's template is not the matter here.
                    let prompt = format!("<|user|>\n{text}\n<|assistant|>\n");
                    let ask = json!({"prompt": prompt, "n_predict": ANSWER, "temperature": 0, "cache_prompt": true});
                    let mut answer = ureq::post(format!("{address}/completion"))
                        .header("Content-Type", "application/json")
                        .send(ask.to_string())
                        .expect("an answer");
                    let answer: Value = serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
                    let tokens = answer["tokens_predicted"].as_u64().filter(|n| *n > 0);
                    written.fetch_add(tokens.unwrap_or_else(|| panic!("{answer}")), Ordering::Relaxed);
                }
            });
        }
    });
    (began.elapsed().as_secs_f64(), written.into_inner())
}

/// A process that ends with the bench.
struct Stopped(Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn median(seconds: &[f64]) -> f64 {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
