//! Compares `tulu-quant batch` with llama-server on the same records, in turn, in one run.
//!
//! ```text
//! cargo bench --bench batch -- MODEL.gguf LLAMA_SERVER [SLOTS] [RECORDS] [ROUNDS]
//! ```
//!
//! LLAMA_SERVER is the path of a llama-server, built from the same llama.cpp for this CPU. Each round starts it twice, with the
//! same slots, threads and context size: with repacked weights, its default, and without (`--no-repack`); `batch` measures which is
//! faster. A client keeps all slots of the server busy. The server's time does not include loading; the time of `batch` is from
//! start to exit. Both decode greedily, up to 64 tokens per answer, and must generate about as many tokens. The records of "alike"
//! have a common prefix of about 650 tokens and 50 tokens of their own; those of "each its own" have about 50 tokens.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a bench stops at the first error"
)]

use serde_json::{Value, json};
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const MAX_TOKENS: usize = 64;
const N_CTX: usize = 1024;

fn main() {
    // Cargo adds --bench.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let [model, server, rest @ ..] = args.as_slice() else {
        println!("usage: cargo bench --bench batch -- MODEL.gguf LLAMA_SERVER [SLOTS] [RECORDS] [ROUNDS]");
        return;
    };
    let number = |i: usize, default: usize| rest.get(i).map_or(default, |text| text.parse().expect("a number"));
    let (slots, records, rounds) = (number(0, 16), number(1, 64), number(2, 1));
    println!("{records} records, {slots} slots, {MAX_TOKENS} tokens each; seconds of each round");
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
            println!("  {row:<25} {seconds:>7.1?} s, {tokens} tokens; batch is {ratio:.2} times as fast");
            assert!(tokens.abs_diff(written) * 20 <= written, "{row} generated {tokens} tokens and batch {written}");
        }
    }
}

/// Returns a prompt of `shared` words, the same in every record, and `own` words of this record.
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

/// Runs `tulu-quant batch`. Returns its seconds from start to exit, and the generated tokens.
fn batch(model: &str, slots: usize, prompts: &[String]) -> (f64, u64) {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in.jsonl"), folder.path().join("out.jsonl"));
    let line = |(i, text): (usize, &String)| {
        let messages = json!([{"role": "user", "content": text}]);
        json!({"custom_id": i.to_string(), "url": "/v1/chat/completions", "body": {"messages": messages}}).to_string()
    };
    fs::write(&input, prompts.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")).unwrap();
    let start = Instant::now();
    let status = Command::new(env!("CARGO_BIN_EXE_tulu-quant"))
        .args(["batch", model, "-n", &MAX_TOKENS.to_string(), "-np", &slots.to_string(), "-c", &N_CTX.to_string()])
        .args([Path::new("-i"), &input, Path::new("-o"), &output])
        .stderr(Stdio::null())
        .status();
    let seconds = start.elapsed().as_secs_f64();
    assert!(status.unwrap().success());
    let text = fs::read_to_string(output).unwrap();
    let tokens = text.lines().map(|line| {
        let record: Value = serde_json::from_str(line).unwrap();
        record["response"]["body"]["usage"]["completion_tokens"].as_u64().expect("a response")
    });
    (seconds, tokens.sum())
}

/// Runs llama-server. Returns the seconds from the first request to the last response, and the generated tokens.
fn llama_server(program: &str, flags: &[&str], model: &str, slots: usize, prompts: &[String]) -> (f64, u64) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("http://127.0.0.1:{port}");
    let threads = std::thread::available_parallelism().unwrap();
    let server = Command::new(program)
        .args(flags)
        .args(["-m", model, "-np", &slots.to_string(), "-c", &(slots * N_CTX).to_string()])
        .args(["-t", &threads.to_string(), "--host", "127.0.0.1", "--port", &port.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _server = KillOnDrop(server.expect("llama-server"));
    let deadline = Instant::now() + Duration::from_secs(120);
    while ureq::get(format!("{address}/health")).call().is_err() {
        assert!(Instant::now() < deadline, "llama-server does not respond");
        std::thread::sleep(Duration::from_millis(100));
    }
    let (waiting, written) = (Mutex::new(prompts.iter()), AtomicU64::new(0));
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..slots {
            scope.spawn(|| {
                while let Some(text) = { waiting.lock().unwrap().next() } {
                    // The prompt is rendered here: this bench does not test the server's chat template.
                    let prompt = format!("<|user|>\n{text}\n<|assistant|>\n");
                    let request =
                        json!({"prompt": prompt, "n_predict": MAX_TOKENS, "temperature": 0, "cache_prompt": true});
                    let mut response = ureq::post(format!("{address}/completion"))
                        .header("Content-Type", "application/json")
                        .send(request.to_string())
                        .expect("a response");
                    let response: Value = serde_json::from_str(&response.body_mut().read_to_string().unwrap()).unwrap();
                    let tokens = response["tokens_predicted"].as_u64().filter(|n| *n > 0);
                    written.fetch_add(tokens.unwrap_or_else(|| panic!("{response}")), Ordering::Relaxed);
                }
            });
        }
    });
    (start.elapsed().as_secs_f64(), written.into_inner())
}

/// A process that is killed when the value is dropped.
struct KillOnDrop(Child);

impl Drop for KillOnDrop {
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
