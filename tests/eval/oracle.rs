//! Comparison with llama.cpp's own tools. `TULU_QUANT_LLAMA_TOOLS` is a folder with llama-perplexity, llama-imatrix and
//! llama-quantize, built from the sources of llama.cpp.

use super::{command, json_of, model, text};
use crate::support::{assert_success, run};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn tool(name: &str) -> Command {
    let folder = std::env::var_os("TULU_QUANT_LLAMA_TOOLS").expect("TULU_QUANT_LLAMA_TOOLS is set");
    Command::new(PathBuf::from(folder).join(name))
}

/// Runs a tool and returns all that it prints.
fn printed(command: &mut Command) -> String {
    let output = run(command, b"");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    text
}

/// Returns the first number after `label`.
fn number(text: &str, label: &str) -> f64 {
    let line = text.lines().find(|line| line.contains(label)).unwrap_or_else(|| panic!("no '{label}' in {text}"));
    let rest = line.split_once(label).unwrap().1.trim_start_matches([' ', ':', '=']);
    rest.split([' ', '%']).next().unwrap().parse().unwrap()
}

fn write_text(folder: &Path) -> PathBuf {
    let file = folder.join("text.txt");
    fs::write(&file, text() + include_str!("../../src/corpus/evaluation.txt")).unwrap();
    file
}

#[test]
#[ignore = "needs llama.cpp's tools"]
fn llamacpp_perplexity_and_divergence_are_those_of_llama_perplexity() {
    let folder = tempfile::tempdir().unwrap();
    let file = write_text(folder.path());
    let base = folder.path().join("base.kld");
    let out = printed(
        tool("llama-perplexity")
            .arg("-m")
            .arg(model("BF16"))
            .arg("-f")
            .arg(&file)
            .arg("--kl-divergence-base")
            .arg(&base),
    );
    let mut eval = command("eval", folder.path());
    eval.arg("--base").arg(model("BF16")).args([model("Q8_0"), model("Q4_0")]).arg("-f").arg(&file);
    let ours = json_of(&mut eval);
    let near = |ours: &serde_json::Value, theirs: f64, relative: f64, what: &str| {
        let ours = ours.as_f64().unwrap();
        // The tool prints six digits after the point.
        assert!((ours - theirs).abs() <= relative * theirs.abs() + 1e-6, "{what}: {ours} and {theirs}");
    };
    // The tool prints "[1]588.0235,[2]533.0902,…": the perplexity of all chunks so far.
    let last = out.rsplit_once(']').unwrap().1.split(',').next().unwrap();
    near(&ours["files"][0]["ppl"]["value"], last.parse().unwrap(), 1e-4, "PPL of the base");
    for (i, kind) in [(1, "Q8_0"), (2, "Q4_0")] {
        let mut kld = tool("llama-perplexity");
        kld.arg("-m").arg(model(kind)).arg("--kl-divergence-base").arg(&base).arg("--kl-divergence");
        let out = printed(&mut kld);
        let file = &ours["files"][i];
        near(&file["ppl"]["value"], number(&out, "Mean PPL(Q)  "), 1e-4, kind);
        for (key, label) in [
            ("mean", "Mean    KLD"),
            ("median", "Median  KLD"),
            ("p90", "90.0%   KLD"),
            ("p99", "99.0%   KLD"),
            ("max", "Maximum KLD"),
        ] {
            near(&file["kl"][key], number(&out, label), 0.01, label);
        }
        let percent = |of: &serde_json::Value| serde_json::json!(100.0 * of.as_f64().unwrap());
        near(&percent(&file["same_top"]["value"]), number(&out, "Same top p"), 0.001, "same top");
        near(&percent(&file["p_diff_rms"]["value"]), number(&out, "RMS Δp    "), 0.01, "RMS");
    }
}

#[test]
#[ignore = "needs llama.cpp's tools"]
fn llamacpp_imatrix_is_the_same_file_and_llama_quantize_accepts_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = write_text(folder.path());
    for flags in [vec![], vec!["-c", "128"], vec!["--process-output", "--chunks", "7"]] {
        let [ours, theirs] = ["ours.gguf", "theirs.gguf"].map(|name| folder.path().join(name));
        let mut imatrix = command("imatrix", folder.path());
        imatrix.arg(model("BF16")).arg("-f").arg(&file).arg("-o").arg(&ours).args(&flags).arg("--force");
        assert_success(&run(&mut imatrix, b""));
        let mut tool = tool("llama-imatrix");
        tool.arg("-m").arg(model("BF16")).arg("-f").arg(&file).arg("-o").arg(&theirs).args(&flags).arg("--no-ppl");
        printed(&mut tool);
        assert!(fs::read(&ours).unwrap() == fs::read(&theirs).unwrap(), "{flags:?}");
    }
    let quantized = folder.path().join("q.gguf");
    let mut quantize = tool("llama-quantize");
    quantize.arg("--imatrix").arg(folder.path().join("ours.gguf")).arg(model("BF16")).arg(&quantized).arg("Q4_K_M");
    assert!(printed(&mut quantize).contains("have importance matrix data with 43 entries"));
}
