//! Layers on a GPU, from outside. These tests need a program with a GPU backend and a device: the program in
//! `TULU_QUANT_GPU_PROGRAM`, or the one under test. Mesa's lavapipe is enough.

use crate::support::batch::chat;
use crate::support::chat::{leave, model_cache};
use crate::support::checkpoint::{bundled, convert};
use crate::support::screen::Terminal;
use crate::support::{assert_error, run, stderr};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The program, without `TULU_QUANT_` variables.
fn program(args: &[&str]) -> Command {
    let mut command = match std::env::var_os("TULU_QUANT_GPU_PROGRAM") {
        Some(program) => Command::new(program),
        None => Command::new(env!("CARGO_BIN_EXE_tulu-quant")),
    };
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TULU_QUANT_")) {
        command.env_remove(name);
    }
    command.args(args).env("TULU_QUANT_CACHE", model_cache()).env("TULU_QUANT_THREADS", "1");
    command
}

/// The demonstration model of each of these types, in a folder of its own.
fn models(types: &str) -> (TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir().unwrap();
    let output = convert(&bundled(), folder.path(), &["-q", types]);
    assert!(output.status.success(), "{output:?}");
    let mut files: Vec<PathBuf> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "gguf"));
    files.sort();
    (folder, files)
}

fn json_of(command: &mut Command) -> Value {
    let output = run(command, b"");
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
#[ignore = "needs a GPU backend and a device"]
fn gpu_logits_are_near_the_exact_ones() {
    let (_folder, files) = models("Q4_K_M,Q8_0,BF16");
    assert_eq!(files.len(), 3);
    for file in &files {
        // The same weights in F32: the CPU's products of quantized weights round the activations to 8 bits, which alone
        // gives a divergence of about 1e-3.
        let folder = tempfile::tempdir().unwrap();
        let exact =
            run(program(&["convert", text(file), "-q", "F32", "--allow-requantize", "-o"]).arg(folder.path()), b"");
        assert!(exact.status.success(), "{}", stderr(&exact));
        let exact = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        let eval = ["eval", text(file), "-ngl", "0", "--offload", "0,1,3,all,auto", "-c", "128", "--chunks", "2"];
        let found = json_of(program(&eval).arg("--base").arg(exact).args(["--no-speed", "--json"]));
        let compared = found["files"].as_array().unwrap();
        assert_eq!(compared.len(), 7);
        let kl = |i: usize| compared[i]["kl"]["mean"].as_f64().unwrap();
        for (i, one) in compared.iter().enumerate().skip(2) {
            println!("{} {} mean KL {:e}, of the CPU {:e}", file.display(), one["variant"], kl(i), kl(1));
            assert!(kl(i) <= 2e-3, "{one}");
        }
        assert_eq!(compared[1]["kl"], compared[2]["kl"], "-ngl 0 uses no GPU");
        assert!(kl(5) <= 1e-3 && kl(6) <= 1e-3, "all layers: {found}");
    }
}

#[test]
#[ignore = "needs a GPU backend and a device"]
fn gpu_small_memory_means_fewer_layers() {
    let (_folder, files) = models("Q8_0");
    let say = |flags: &[&str]| {
        run(program(&["chat", text(&files[0]), "-p", "Hello", "-n", "4", "--temp", "0"]).args(flags), b"")
    };
    let tight = say(&["--device-memory", "20M"]);
    assert!(tight.status.success() && stderr(&tight).contains("of 7 layers fit on "), "{}", stderr(&tight));
    let none = say(&["--device-memory", "1K"]);
    assert!(none.status.success() && stderr(&none).contains("everything runs on the CPU"), "{}", stderr(&none));
    let refused = say(&["--device-memory", "20M", "-ngl", "all"]);
    assert_error(&refused, 3, "MEMORY", &["give -ngl "]);
    assert_eq!(stderr(&refused).trim_end().lines().count(), 1);
}

#[test]
#[ignore = "needs a GPU backend and a device"]
fn gpu_batch_resumes_after_a_kill() {
    let (folder, files) = models("Q8_0");
    let input = folder.path().join("in.txt");
    fs::write(&input, (0..12).map(|n| format!("Tell me a story about {n} dogs.\n")).collect::<String>()).unwrap();
    let batch = |name: &str, flags: &[&str]| {
        let out = folder.path().join(name);
        let mut command = program(&["batch", text(&files[0]), "--format", "text", "-c", "256", "-n", "6", "-i"]);
        command.arg(&input).arg("-o").arg(&out).args(flags);
        (command, out)
    };
    let (mut whole, expected) = batch("whole.jsonl", &["-ngl", "all", "-np", "1"]);
    assert!(run(&mut whole, b"").status.success());
    let (mut killed, out) = batch("killed.jsonl", &["-ngl", "all", "-np", "1"]);
    let mut child = killed.stderr(std::process::Stdio::null()).spawn().unwrap();
    let journal = folder.path().join("killed.jsonl.journal");
    while child.try_wait().unwrap().is_none()
        && fs::read_to_string(&journal).map_or(0, |lines| lines.lines().count()) < 4
    {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let _ = child.kill();
    child.wait().unwrap();
    let (mut again, _) = batch("killed.jsonl", &["-ngl", "all", "-np", "1"]);
    assert!(run(&mut again, b"").status.success());
    assert_eq!(fs::read(out).unwrap(), fs::read(expected).unwrap());
}

#[test]
#[ignore = "needs a GPU backend and a device"]
fn gpu_conversations_are_stopped_saved_and_continued() {
    let (folder, files) = models("Q8_0");
    let start = |more: &[&str]| {
        let mut command = program(&["chat", text(&files[0]), "-ngl", "all", "--temp", "0", "-n", "24", "-c", "1024"]);
        command.args(more).current_dir(folder.path()).env("TULU_QUANT_CONVERSATIONS", folder.path().join("kept"));
        Terminal::chat(command, 40, 100)
    };
    let mut terminal = start(&[]);
    terminal.line("Hello");
    // A prompt of about 900 tokens, stopped during prefill.
    let mark = terminal.raw.len();
    terminal.paste(&"word and word ".repeat(220));
    terminal.keys("\r");
    terminal.cooked();
    terminal.keys("\x03");
    terminal.prompt_after(mark);
    let prompt = terminal.line("/show prompt");
    assert!(prompt.contains("Hello") && !prompt.contains("word and word"), "{prompt}");
    assert!(terminal.line("/save trip").contains("saved to"));
    terminal.line("What is the capital of France?");
    let said = |terminal: &mut Terminal| {
        let screen = terminal.line("/show prompt");
        let (begin, end) = (screen.find("<|user|>").unwrap(), screen.rfind("</s>").unwrap());
        screen[begin..end].to_owned()
    };
    let asked = said(&mut terminal);
    assert!(asked.contains("France") && !asked.contains("word and word"), "{asked}");
    leave(terminal);
    let mut loaded = start(&["--load", "trip"]);
    loaded.line("What is the capital of France?");
    assert_eq!(said(&mut loaded), asked);
    leave(loaded);
}

#[test]
#[ignore = "needs a GPU backend and a device"]
fn gpu_answers_end_and_have_log_probabilities_as_on_the_cpu() {
    let (folder, files) = models("Q8_0");
    let input = folder.path().join("in.jsonl");
    let long = json!({"max_tokens": 1000, "logit_bias": {"2": -100}});
    let likely = json!({"max_tokens": 4, "logprobs": true, "top_logprobs": 3});
    let lines = [chat("long", "Tell me a story.", &long), chat("likely", "What is the capital of France?", &likely)];
    fs::write(&input, lines.join(&b'\n')).unwrap();
    let choices = |layers: &str| {
        let out = folder.path().join(format!("{layers}.jsonl"));
        let mut command = program(&["batch", text(&files[0]), "-ngl", layers, "-c", "256", "-np", "2", "-i"]);
        let output = run(command.arg(&input).arg("-o").arg(&out), b"");
        assert!(output.status.success(), "{}", stderr(&output));
        let lines = fs::read_to_string(out).unwrap();
        let body = |line: &str| serde_json::from_str::<Value>(line).unwrap()["response"]["body"].clone();
        lines.lines().map(body).collect::<Vec<_>>()
    };
    let (cpu, gpu) = (choices("0"), choices("all"));
    assert_eq!(gpu[0]["choices"][0]["finish_reason"], "length");
    assert_eq!(gpu[0]["usage"]["total_tokens"], cpu[0]["usage"]["total_tokens"]);
    let first = |bodies: &[Value]| bodies[1]["choices"][0]["logprobs"]["content"][0]["top_logprobs"][0].clone();
    let (cpu, gpu) = (first(&cpu), first(&gpu));
    assert_eq!(cpu["token"], gpu["token"]);
    let difference = cpu["logprob"].as_f64().unwrap() - gpu["logprob"].as_f64().unwrap();
    assert!(difference.abs() < 0.05, "{cpu} {gpu}");
}

#[test]
fn flags_of_gpus_are_refused_where_there_is_none() {
    let say = |flags: &[&str]| {
        let mut command = program(&["chat", "-p", "Hello", "-n", "1", "-dev", "NoSuchDevice0"]);
        run(command.args(flags), b"")
    };
    assert_error(&say(&[]), 2, "GPU", &[]);
    assert_error(&say(&["-ngl", "7"]), 2, "GPU", &[]);
    assert_error(&say(&["-ngl", "half"]), 2, "USAGE", &[]);
    assert_error(&say(&["--device-memory", "much"]), 2, "USAGE", &[]);
    assert_error(&say(&["-ts", "0,0"]), 2, "GPU", &[]);
    // Nothing on a GPU: no device is looked for.
    assert!(say(&["-ngl", "0"]).status.success());
    let none = run(program(&["chat", "-p", "Hello", "-n", "1", "--temp", "0"]).args(["-dev", "none"]), b"");
    let cpu = run(program(&["chat", "-p", "Hello", "-n", "1", "--temp", "0"]).args(["-ngl", "0"]), b"");
    assert!(none.status.success() && none.stdout == cpu.stdout);
}
