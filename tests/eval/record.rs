//! `convert --eval`, `--record`, and what shows the results.

use super::command;
use crate::support::{assert_error, assert_success, checkpoint, run, stderr};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;
use tulu_quantize::gguf::Gguf;

fn convert(folder: &Path, args: &[&str]) -> Command {
    let mut convert = command("convert", &folder.join("cache"));
    convert
        .arg(checkpoint::bundled())
        .args(["--eval", "--eval-chunks", "4"])
        .args(args)
        .arg("-o")
        .arg(folder.join("out"));
    convert
}

fn names(folder: &Path) -> Vec<String> {
    let mut all: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    all.sort();
    all
}

/// The bytes of all tensors.
fn weights(path: &Path) -> Vec<u8> {
    let file = Gguf::open(path).unwrap();
    fs::read(path).unwrap()[usize::try_from(file.data).unwrap()..].to_vec()
}

#[test]
fn results_are_in_the_card_and_in_the_metadata() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    assert_success(&run(&mut convert(folder.path(), &["-q", "Q4_0,Q8_0"]), b""));
    let plain = ["Q4_0", "Q8_0"].map(|kind| weights(&out.join(format!("tulu-tiny-{kind}.gguf"))));
    assert_eq!(names(&out), ["tulu-tiny-Q4_0.gguf", "tulu-tiny-Q8_0.gguf"]);
    let output = run(&mut convert(folder.path(), &["-q", "Q4_0,Q8_0", "--record", "--card", "--force", "--json"]), b"");
    assert_success(&output);
    // The base is deleted; the weights are the same; the files are sound and equal to their source.
    assert_eq!(names(&out), ["README.md", "tulu-tiny-Q4_0.gguf", "tulu-tiny-Q8_0.gguf"]);
    assert_eq!(fs::read_dir(folder.path().join("cache/eval")).unwrap().count(), 0);
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    let card = fs::read_to_string(out.join("README.md")).unwrap();
    assert!(card.contains("against BF16") && card.contains("## What quantization costs"), "{card}");
    for (kind, plain) in ["Q4_0", "Q8_0"].iter().zip(plain) {
        let path = out.join(format!("tulu-tiny-{kind}.gguf"));
        assert!(weights(&path) == plain, "{kind}");
        let mut verify = command("verify", folder.path());
        let output = run(verify.arg(&path).arg("--against").arg(checkpoint::bundled()), b"");
        assert_success(&output);
        // The numbers are those of `eval`, and every output has them.
        let mut eval = command("eval", folder.path());
        eval.arg("--base").arg(super::model("BF16")).arg(&path).args(["--chunks", "4", "--json", "--no-speed"]);
        let output = run(&mut eval, b"");
        assert_success(&output);
        let wanted: Value = serde_json::from_slice(&output.stdout).unwrap();
        let mean = wanted["files"][1]["kl"]["mean"].as_f64().unwrap();
        let file = Gguf::open(&path).unwrap();
        let number = |key: &str| file.get(&format!("tulu_quant.eval.{key}")).unwrap().to_string();
        assert_eq!(number("kl_mean").parse::<f32>().unwrap(), mean as f32);
        assert_eq!([number("chunks"), number("context")], ["4", "512"]);
        assert_eq!(file.str("tulu_quant.eval.base"), Some("BF16"));
        assert_eq!(file.str("tulu_quant.eval.text_sha256"), wanted["text"]["sha256"].as_str());
        assert!(card.contains(&format!("| {kind} | ")) && card.contains(&format!("{mean:.5} ±")), "{card}");
        assert!((result["eval"][kind]["kl"]["mean"].as_f64().unwrap() - mean).abs() < 1e-6);
        let shown = run(command("inspect", folder.path()).arg(&path), b"");
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert!(shown.contains(&format!("mean KL divergence {mean:.5} from BF16, same top token")), "{shown}");
        let shown = run(command("inspect", folder.path()).arg(&path).arg("--json"), b"");
        let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
        assert_eq!(shown["eval"]["base"], "BF16");
        // The checksum of the card is that of the recorded file.
        assert!(card.contains(&crate::support::sha256(&fs::read(&path).unwrap())));
    }
    // `models --here` shows it for files of the cache, and a conversion of the file drops what holds no more.
    fs::copy(out.join("tulu-tiny-Q8_0.gguf"), folder.path().join("cache/tulu-tiny-0123456789ab-Q8_0.gguf")).unwrap();
    let here = run(command("models", &folder.path().join("cache")).arg("--here"), b"");
    let here = String::from_utf8(here.stdout).unwrap();
    assert!(here.contains("evaluated") && here.contains("mean KL divergence 0.000"), "{here}");
    let again = folder.path().join("again.gguf");
    let mut requantize = command("convert", folder.path());
    requantize.arg(out.join("tulu-tiny-Q8_0.gguf")).args(["-q", "Q4_0", "--allow-requantize", "-o"]).arg(&again);
    assert_success(&run(&mut requantize, b""));
    assert!(!Gguf::open(&again).unwrap().pairs.iter().any(|(key, _)| key.starts_with("tulu_quant.eval.")));
}

#[test]
fn a_lossless_output_is_the_base_and_parts_are_recorded_in_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let args = ["-q", "BF16,Q8_0", "--record", "--split-max-size", "3M"];
    let output = run(&mut convert(folder.path(), &args), b"");
    assert_success(&output);
    let first = |kind: &str| {
        let begin = format!("tulu-tiny-{kind}-00001-of");
        out.join(names(&out).into_iter().find(|name| name.starts_with(&begin)).unwrap())
    };
    let value =
        |kind: &str, key: &str| Gguf::open(&first(kind)).unwrap().get(&format!("tulu_quant.eval.{key}")).cloned();
    assert!(value("BF16", "ppl").is_some() && value("BF16", "kl_mean").is_none());
    assert!(value("Q8_0", "kl_mean").is_some());
    assert!(names(&out).iter().all(|name| !name.contains("eval-base")));
    let mut verify = command("verify", folder.path());
    assert_success(&run(verify.arg(first("Q8_0")), b""));
    // A text that cannot be used is found before anything is converted.
    let output = run(&mut convert(folder.path(), &["--eval-text", "missing.txt", "-q", "Q4_0"]), b"");
    assert_error(&output, 2, "IO", &["missing.txt"]);
    assert!(!names(&out).iter().any(|name| name.contains("Q4_0")), "{}", stderr(&output));
}
