//! `tulu-quant bench`: the format of its output, not the numbers.

use crate::support::chat::with_model_cache;
use crate::support::checkpoint::bundled;
use crate::support::{assert_success, draft_model, last_line, run, tulu_quant};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

fn bench(args: &[&str]) -> Command {
    let mut command = with_model_cache(&["bench"]);
    command.args(args);
    command
}

#[test]
fn json_has_the_fields_of_llama_bench() {
    let output = run(&mut bench(&["-p", "64,16", "-n", "8", "-r", "3", "--json"]), b"");
    assert!(output.status.success(), "{output:?}");
    let tests: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let lengths: Vec<_> = tests.iter().map(|test| (test["n_prompt"].as_u64(), test["n_gen"].as_u64())).collect();
    assert_eq!(lengths, [(Some(64), Some(0)), (Some(16), Some(0)), (Some(0), Some(8))]);
    for test in &tests {
        for field in ["model_filename", "model_type", "type_k", "type_v", "test_time", "backends", "flash_attn"] {
            assert!(test[field].is_string(), "{field}: {test}");
        }
        for field in ["model_size", "model_n_params", "n_batch", "n_ubatch", "n_threads", "n_gpu_layers", "avg_ns"] {
            assert!(test[field].is_u64(), "{field}: {test}");
        }
        assert!(test["avg_ts"].as_f64().unwrap() > 0.0 && test["stddev_ts"].as_f64().unwrap() >= 0.0);
        let [ns, ts] = ["samples_ns", "samples_ts"].map(|field| test[field].as_array().unwrap());
        assert_eq!((ns.len(), ts.len()), (3, 3));
        let tokens = (test["n_prompt"].as_u64().unwrap() + test["n_gen"].as_u64().unwrap()) as f64;
        let speed = tokens * 1e9 / ns[0].as_f64().unwrap();
        assert!((speed / ts[0].as_f64().unwrap() - 1.0).abs() < 1e-6, "samples_ts is tokens over samples_ns");
    }
    assert!(tests[2]["memory_bandwidth"].as_f64().unwrap() > 0.0);
    // The bundled model fits the CPU's caches, so a share of the memory bandwidth would mean nothing.
    assert!(tests.iter().all(|test| test["memory_bandwidth_share"].is_null()));
}

#[test]
fn table_looks_like_llama_bench() {
    let output = run(&mut bench(&["-p", "32", "-n", "4", "-r", "1"]), b"");
    assert!(output.status.success(), "{output:?}");
    let table = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 4, "{table}");
    assert!(lines.iter().all(|line| line.matches('|').count() == lines[0].matches('|').count()), "{table}");
    assert!(lines[2].contains(" pp32 |") && lines[3].contains(" tg4 |") && lines[3].contains(" ± "), "{table}");
}

#[test]
fn several_sequences_generate_at_the_same_time() {
    let output = run(&mut bench(&["-p", "16", "-n", "8", "-npl", "1,3,8", "-r", "2", "--json"]), b"");
    assert!(output.status.success(), "{output:?}");
    let tests: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let sizes: Vec<_> = tests
        .iter()
        .map(|test| ["n_prompt", "n_gen", "n_parallel"].map(|field| test[field].as_u64().unwrap()))
        .collect();
    assert_eq!(sizes, [[16, 0, 1], [0, 8, 1], [0, 8, 3], [0, 8, 8]]);
    for (test, [_, n_gen, n_parallel]) in tests.iter().zip(&sizes).skip(1) {
        let nanoseconds = test["samples_ns"][0].as_f64().unwrap();
        let speed = (n_gen * n_parallel) as f64 * 1e9 / nanoseconds;
        let shown = test["samples_ts"][0].as_f64().unwrap();
        assert!((speed / shown - 1.0).abs() < 1e-6, "samples_ts counts the tokens of all sequences");
    }
    let output = run(&mut bench(&["-p", "0", "-n", "4", "-npl", "1,4", "-r", "1"]), b"");
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains(" tg4 |") && table.contains(" tg4 x 4 |"), "{table}");
}

#[test]
fn the_share_of_the_peak_is_that_of_the_weights_products() {
    let output = run(&mut bench(&["-p", "16", "-n", "4", "-r", "1", "--json"]), b"");
    let tests: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    for test in &tests {
        let Some(peak) = test["peak_multiply_adds"].as_f64() else {
            assert!(test["peak_share"].is_null() && test["peak_instructions"].is_null(), "{test}");
            continue;
        };
        assert!(peak > 1e9 && test["peak_instructions"].is_string(), "{test}");
        let share = test["peak_share"].as_f64().unwrap();
        let products = share * peak / test["avg_ts"].as_f64().unwrap();
        // Without the embedding and the norms, and for a prompt without the output.
        assert!(products > 0.0 && products < test["model_n_params"].as_f64().unwrap(), "{test}");
    }
}

#[test]
fn impossible_lengths_are_refused() {
    for (args, code) in [
        (["-p", "0", "-n", "0"], "USAGE"),
        (["-p", "100000", "-n", "0"], "CTX_SIZE"),
        (["-p", "4294967295", "-n", "0"], "CTX_SIZE"),
    ] {
        let output = run(&mut bench(&args), b"");
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(last_line(&output).starts_with(&format!("tulu-quant: error[{code}]")), "{}", last_line(&output));
    }
}

#[test]
fn impossible_context_size_is_refused_before_conversion() {
    let folder = bundled();
    for verb in ["chat", "bench"] {
        for (window, limit) in [("999999999", "16777216"), ("2000", "1024")] {
            let cache = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("window-{verb}-{window}"));
            let mut command = tulu_quant();
            command.arg(verb).arg(&folder).args(["-c", window]).env("TULU_QUANT_CACHE", &cache);
            let output = run(&mut command, b"Hello");
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{said}");
            assert!(last_line(&output).contains("error[CTX_SIZE]") && said.contains(limit), "{verb} {window}: {said}");
            assert!(!said.contains("Converting") && !cache.exists(), "{said}");
        }
    }
}

#[test]
fn answers_are_measured_with_and_without_drafts() {
    let dir = tempfile::tempdir().unwrap();
    let prompt = dir.path().join("article.txt");
    fs::write(&prompt, "Tell me a story about a cat.").unwrap();
    let mut command = bench(&["-p", prompt.to_str().unwrap(), "-n", "24", "-r", "1", "-t", "1", "--json"]);
    command.args(["--draft", draft_model().to_str().unwrap(), "--draft-n", "3", "--acceptance", "0,1"]);
    let output = run(&mut command, b"");
    assert_success(&output);
    let all: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let of =
        |label: &str| all.iter().find(|test| test["answer"] == label).unwrap_or_else(|| panic!("{label}: {all:?}"));
    assert_eq!(of("article.txt")["drafts"]["tokens_per_pass"], 1.0);
    assert!(of("article.txt drafts")["drafts"]["tokens_per_pass"].as_f64() > Some(1.2));
    assert_eq!(of("no drafts")["drafts"]["drafted"], 0);
    assert_eq!(of("@ 0")["drafts"]["accepted"], 0);
    assert_eq!(of("@ 1")["drafts"]["acceptance"], 1.0);
    assert_eq!(of("@ 1")["drafts"]["tokens"], 24);
    assert_eq!(of("@ 1")["n_gen"], 24);
    for wrong in [["-p", "absent.txt"], ["--acceptance", "1.5"]] {
        assert_eq!(run(&mut bench(&wrong), b"").status.code(), Some(2), "{wrong:?}");
    }
}
