//! The base's distributions in a file, types of the KV cache, and conversations.

use super::{command, json_of, model, text};
use crate::support::{assert_error, assert_success, run, stderr};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

/// `eval --base BF16 Q4_0 Q8_0 --base-file FILE` on a text.
fn stored(folder: &Path, cache: &str, file: &str, more: &[&str]) -> Command {
    let text_file = folder.join("text.txt");
    fs::write(&text_file, text()).unwrap();
    let mut eval = command("eval", &folder.join(cache));
    eval.arg("--base").arg(model("BF16")).args([model("Q4_0"), model("Q8_0")]).arg("-f").arg(&text_file);
    eval.arg("--base-file").arg(folder.join(file)).args(more);
    eval
}

fn near(one: &Value, other: &Value, relative: f64) -> bool {
    let [one, other] = [one, other].map(|value| value.as_f64().unwrap());
    (one - other).abs() <= relative * other.abs()
}

#[test]
fn a_stored_base_gives_the_same_numbers_from_a_tenth_of_the_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let mut live = command("eval", folder.path());
    let file = folder.path().join("text.txt");
    fs::write(&file, text()).unwrap();
    live.arg("--base").arg(model("BF16")).args([model("Q4_0"), model("Q8_0")]).arg("-f").arg(&file);
    let live = json_of(&mut live);
    let first = json_of(&mut stored(folder.path(), "cache", "base", &[]));
    for i in [1, 2] {
        let (live, stored) = (&live["files"][i], &first["files"][i]);
        assert_eq!(live["same_top"], stored["same_top"]);
        assert!(near(&stored["ppl"]["value"], &live["ppl"]["value"], 1e-6));
        let (mean, bound) = (&stored["kl"]["mean"], stored["kl"]["bound"].as_f64().unwrap());
        assert!(near(mean, &live["kl"]["mean"], 0.01), "{stored} {live}");
        assert!((mean.as_f64().unwrap() - live["kl"]["mean"].as_f64().unwrap()).abs() <= bound);
        for key in ["median", "p90", "p99"] {
            assert!(near(&stored["kl"][key], &live["kl"][key], 0.03), "{key} {stored} {live}");
        }
    }
    assert_eq!(live["files"][1]["kl"]["bound"], 0.0);
    // llama-perplexity's file has two bytes for each token of the vocabulary, and eight more.
    let scored = first["n_scored"].as_u64().unwrap();
    let bytes = fs::metadata(folder.path().join("base")).unwrap().len();
    assert!(bytes * 10 <= scored * (2 * 1536 + 8), "{bytes} for {scored} tokens");
    // The file is used again, and a torn file is finished; both give the same numbers.
    let output = run(stored(folder.path(), "other", "base", &[]).args(["--json", "--no-speed"]), b"");
    assert_success(&output);
    assert!(!stderr(&output).contains("Keeping the base's distributions"), "{}", stderr(&output));
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap(), first);
    let whole = fs::read(folder.path().join("base")).unwrap();
    fs::write(folder.path().join("base"), &whole[..whole.len() / 2]).unwrap();
    assert_eq!(json_of(&mut stored(folder.path(), "third", "base", &[])), first);
    assert!(fs::read(folder.path().join("base")).unwrap() == whole);
    // All logits in 16 bits are nearer.
    let exact = json_of(&mut stored(folder.path(), "cache", "base16", &["--base-encoding", "logits16"]));
    assert!(near(&exact["files"][2]["kl"]["median"], &live["files"][2]["kl"]["median"], 0.001));
    // A file of another text is refused and stays.
    let output = run(&mut stored(folder.path(), "cache", "base", &["--chunks", "2"]), b"");
    assert_error(&output, 2, "RESUME_MISMATCH", &["base", "another base, text or setting"]);
    assert!(fs::read(folder.path().join("base")).unwrap() == whole);
}

#[test]
fn types_of_the_kv_cache_are_compared_with_f16() {
    let folder = tempfile::tempdir().unwrap();
    let mut eval = command("eval", folder.path());
    let all = json_of(eval.arg(model("Q8_0")).args(["--kv", "q8_0,q4_0", "--chunks", "4"]));
    let files = all["files"].as_array().unwrap();
    let variants: Vec<&Value> = files.iter().map(|file| &file["variant"]).collect();
    assert_eq!(variants, [&Value::Null, &Value::from("KV q8_0"), &Value::from("KV q4_0")]);
    assert_eq!(files[0]["base"], true);
    let kl = |i: usize| files[i]["kl"]["mean"].as_f64().unwrap();
    assert!(kl(1) > 0.0 && kl(2) > 5.0 * kl(1), "{} {}", kl(1), kl(2));
    let memory = |i: usize| files[i]["memory_bytes"].as_u64().unwrap();
    assert!(memory(2) < memory(1) && memory(1) < memory(0));
}

#[test]
fn of_conversations_only_answers_are_scored() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("chat.jsonl");
    let line = |question: &str, answer: &str| serde_json::json!({"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]});
    let [good, bad] = ["The capital of France is Paris.", "The capital of France is Hut."]
        .map(|answer| line("What is the capital of France?", answer).to_string() + "\n");
    let evaluate = |text: &str| {
        fs::write(&file, text).unwrap();
        json_of(command("eval", folder.path()).arg(model("BF16")).arg("-f").arg(&file))
    };
    let right = evaluate(&good.repeat(3));
    assert_eq!(right["n_chunks"], 3);
    let ppl = |of: &Value| of["files"][0]["ppl"]["value"].as_f64().unwrap();
    // The model knows the answer, and that `</s>` follows; it would not know the question.
    assert!(ppl(&right) < 1.1, "{right}");
    assert!(ppl(&evaluate(&bad)) > 2.0);
    // A longer question does not change the number of scored tokens.
    let both =
        line("Hello, my friend! Please tell me: what is the capital of France?", "The capital of France is Paris.");
    let longer = evaluate(&both.to_string());
    assert_eq!(3 * longer["n_scored"].as_u64().unwrap(), right["n_scored"].as_u64().unwrap());
    for (text, code, parts) in [
        (
            "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]}\n",
            "TEXT_TOO_SHORT",
            "no conversation has an answer",
        ),
        ("\n{\"messages\": 1}\n", "MESSAGE", "line 2: "),
        ("Hello\n", "JSON", "line 1: "),
    ] {
        fs::write(&file, text).unwrap();
        let output = run(command("eval", folder.path()).arg(model("BF16")).arg("-f").arg(&file), b"");
        assert_error(&output, 2, code, &["chat.jsonl", parts]);
    }
}
