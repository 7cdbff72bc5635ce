//! `eval --types` and `--by-tensor`: nothing that they make is kept.

use super::{command, json_of, model, models};
use crate::support::{assert_error, assert_success, checkpoint, run, stderr};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// All files below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn a_checkpoint_is_converted_evaluated_and_nothing_is_kept() {
    let cache = tempfile::tempdir().unwrap();
    let mut eval = command("eval", cache.path());
    let output = run(
        eval.arg(checkpoint::bundled()).args(["--types", "q8_0,Q4_0", "--chunks", "4", "--json", "--no-speed"]),
        b"",
    );
    assert_success(&output);
    let said = stderr(&output);
    assert!(said.contains("to BF16, Q8_0, Q4_0: reads 11.0 MB, needs 20."), "{said}");
    let all: Value = serde_json::from_slice(&output.stdout).unwrap();
    let kinds: Vec<&Value> = all["files"].as_array().unwrap().iter().map(|file| &file["type"]).collect();
    assert_eq!(kinds, ["BF16", "Q8_0", "Q4_0"]);
    // The path of a file that is deleted is of no use.
    assert!(all["files"][1]["path"].is_null());
    assert_eq!(all["files"][1]["name"], "tulu-tiny-Q8_0");
    assert_eq!(files(cache.path()), Vec::<PathBuf>::new());
    // The numbers are those of files that `convert` makes; a GGUF file as the source is the base itself.
    let mut kept = command("eval", cache.path());
    let kept =
        json_of(kept.arg("--base").arg(model("BF16")).args([model("Q8_0"), model("Q4_0")]).args(["--chunks", "4"]));
    let mut of_gguf = command("eval", cache.path());
    let of_gguf = json_of(of_gguf.arg(model("BF16")).args(["--types", "Q8_0,Q4_0", "--chunks", "4"]));
    for i in 0..3 {
        for key in ["ppl", "kl", "same_top", "bits_per_weight"] {
            assert_eq!(all["files"][i][key], kept["files"][i][key], "{key}");
            assert_eq!(of_gguf["files"][i][key], kept["files"][i][key], "{key}");
        }
    }
    assert_eq!(of_gguf["files"][0]["path"], model("BF16").to_str().unwrap());
    assert!(files(cache.path()).is_empty() && model("BF16").exists());
}

#[test]
fn errors_and_signals_leave_nothing() {
    let cache = tempfile::tempdir().unwrap();
    let eval = || {
        let mut eval = command("eval", cache.path());
        eval.arg(checkpoint::bundled());
        eval
    };
    let output = run(eval().args(["--types", "Q8_0", "-c", "1000000"]), b"");
    assert_error(&output, 2, "TEXT_TOO_SHORT", &[]);
    assert_eq!(files(cache.path()), Vec::<PathBuf>::new());
    let output = run(eval().args(["--types", "Q8_9"]), b"");
    assert_error(&output, 2, "TYPE", &["Q8_9"]);
    let output = run(eval().arg(models()).args(["--types", "Q8_0"]), b"");
    assert_error(&output, 2, "USAGE", &["--types takes one model"]);
    let output = run(command("eval", cache.path()).args(["tulu-tiny:Q4_K_M", "--types", "Q8_0"]), b"");
    assert_error(&output, 2, "REQUEST", &["eval does not accept NAME:TYPE", "--types Q4_K_M"]);
    let output = run(command("eval", cache.path()).arg(model("Q8_0")).args(["--imatrix", "auto"]), b"");
    assert_error(&output, 2, "USAGE", &["give --types or --suggest"]);
    // A signal while the files are evaluated; then a kill, after which the next run deletes what is left.
    let text = cache.path().join("long.txt");
    fs::write(&text, super::text().repeat(200)).unwrap();
    let gguf =
        || files(cache.path()).into_iter().filter(|file| file.extension().is_some_and(|end| end == "gguf")).count();
    for signal in ["TERM", "KILL"] {
        let mut child = eval().args(["--types", "Q4_0", "-f"]).arg(&text).stderr(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        while gguf() < 2 {
            assert!(child.try_wait().unwrap().is_none() && begun.elapsed() < Duration::from_secs(300));
            std::thread::sleep(Duration::from_millis(5));
        }
        std::process::Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap();
        child.wait().unwrap();
        assert_eq!(gguf(), if signal == "TERM" { 0 } else { 2 });
    }
    assert_success(&run(command("eval", cache.path()).arg(model("Q8_0")).args(["--chunks", "1", "--no-speed"]), b""));
    assert_eq!(gguf(), 0);
}

#[test]
fn groups_of_tensors_are_swapped_alone() {
    let cache = tempfile::tempdir().unwrap();
    let page = cache.path().join("page.html");
    let mut eval = command("eval", cache.path());
    eval.arg("--base")
        .arg(model("BF16"))
        .arg(model("Q4_0"))
        .args(["--by-tensor", "-c", "128", "--chunks", "4", "--html"])
        .arg(&page);
    let all = json_of(&mut eval);
    let groups = all["files"][1]["by_tensor"].as_array().unwrap();
    let names: Vec<&str> = groups.iter().map(|group| group["group"].as_str().unwrap()).collect();
    let kinds = ["token_embd", "attn_qk", "attn_v", "attn_output", "ffn_gate_up", "ffn_down", "output"];
    let layers: Vec<String> = (0..6).map(|layer| format!("layer {layer}")).collect();
    assert_eq!(names[..7], kinds);
    assert_eq!(names[7..], layers);
    let kl = |group: &Value| group["kl"]["mean"].as_f64().unwrap();
    let whole = kl(&all["files"][1]);
    // The sum of the parts is near the whole, and no part is above it.
    for parts in [&groups[..7], &groups[7..]] {
        assert!(parts.iter().all(|group| kl(group) > 0.0 && kl(group) < whole), "{all:#}");
    }
    let sum: f64 = groups[..7].iter().map(kl).sum();
    assert!((0.5..2.0).contains(&(sum / whole)), "{sum} {whole}");
    assert_eq!(files(cache.path()), std::slice::from_ref(&page));
    let html = fs::read_to_string(page).unwrap();
    assert!(html.contains("by layer") && html.contains("layer 5"), "{html}");
    // A swap is the file that has these tensors: with all kinds but one from the base, `convert` makes the same file.
    let one = cache.path().join("one.gguf");
    let mut convert = command("convert", cache.path());
    convert.arg(checkpoint::bundled()).args(["-q", "Q4_0", "--tensor-type", "ffn_down=q4_0,.*=bf16", "-o"]).arg(&one);
    assert_success(&run(&mut convert, b""));
    let mut eval = command("eval", cache.path());
    let base = cache.path().join("base");
    eval.arg("--base").arg(model("BF16")).arg(&one).args(["-c", "128", "--chunks", "4", "--base-file"]).arg(&base);
    let converted = json_of(&mut eval);
    let swapped = groups.iter().find(|group| group["group"] == "ffn_down").unwrap();
    assert_eq!(converted["files"][1]["kl"], swapped["kl"]);
    let output = run(command("eval", cache.path()).arg(model("Q4_0")).arg("--by-tensor"), b"");
    assert_error(&output, 2, "USAGE", &["give --base"]);
}

#[test]
fn a_size_becomes_rules_that_fit_and_were_tested() {
    let folder = tempfile::tempdir().unwrap();
    let mut eval = command("eval", folder.path());
    eval.arg(checkpoint::bundled()).args(["--suggest", "3.2M", "-c", "64", "--chunks", "4", "--json", "--no-speed"]);
    let output = run(&mut eval, b"");
    assert_success(&output);
    let all: Value = serde_json::from_slice(&output.stdout).unwrap();
    let own = &all["files"][1];
    assert!(own["bytes"].as_u64().unwrap() <= 3_200_000 && all["files"][2]["bytes"].as_u64().unwrap() <= 3_200_000);
    let kl = |of: &Value| of["kl"]["mean"].as_f64().unwrap();
    let mix_is_better = kl(&all["files"][2]) <= kl(own);
    assert_eq!(all["suggestion"]["mix_is_better"], mix_is_better);
    assert_eq!(files(folder.path()), Vec::<PathBuf>::new());
    // The command makes the file that was tested.
    let command_line = all["suggestion"]["command"].as_str().unwrap();
    let out = folder.path().join("out.gguf");
    let program = env!("CARGO_BIN_EXE_tulu-quant");
    let line = format!("{} -o '{}'", command_line.replacen("tulu-quant", program, 1), out.display());
    let made = std::process::Command::new("sh").arg("-c").arg(line).output().unwrap();
    assert!(made.status.success(), "{}", stderr(&made));
    let better = if mix_is_better { &all["files"][2] } else { own };
    assert_eq!(fs::metadata(&out).unwrap().len(), better["bytes"].as_u64().unwrap());
    let mut eval = command("eval", folder.path());
    let again = json_of(eval.arg("--base").arg(model("BF16")).arg(&out).args(["-c", "64", "--chunks", "4"]));
    assert_eq!(again["files"][1]["kl"], better["kl"]);
    let mut eval = command("eval", folder.path());
    let output = run(eval.arg(checkpoint::bundled()).args(["--suggest", "1M"]), b"");
    assert_error(&output, 2, "REQUEST", &["no file is that small", "with Q2_K"]);
    assert_eq!(files(folder.path()), [out]);
}
