//! `convert` of folders and GGUF files: the outputs and the plan.

use crate::support::checkpoint::{SHARDS, bundled, convert, copy, json, listing};
use crate::support::{last_line, run, tulu_quant};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn three_types_in_one_pass_and_no_other_files() {
    let (_dir, source, out) = copy();
    let out = out.join("made/when/missing");
    let output = convert(&source, &out, &["-q", "Q4_K_M,q5_k_m,Q8_0"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stdout.is_empty(), "stdout carries data only");
    assert_eq!(listing(&out), ["source-Q4_K_M.gguf", "source-Q5_K_M.gguf", "source-Q8_0.gguf"]);

    let shown = json(&run(tulu_quant().arg("inspect").arg(out.join("source-Q4_K_M.gguf")).arg("--json"), b""));
    assert_eq!(shown["type"], "Q4_K_M");
    assert_eq!(shown["metadata"]["general.architecture"], "llama");
    assert_eq!(shown["metadata"]["tokenizer.ggml.eos_token_id"], 2);
    let tokens = shown["metadata"]["tokenizer.ggml.tokens"].as_array().unwrap().len();
    assert_eq!(shown["metadata"]["llama.vocab_size"], tokens);
    let types: Vec<&str> = shown["tensors"].as_array().unwrap().iter().map(|t| t["type"].as_str().unwrap()).collect();
    assert!(types.contains(&"q4_K") && types.contains(&"q6_K") && types.contains(&"f32"), "{types:?}");
}

#[test]
fn dry_run_plan_equals_the_output() {
    let (_dir, source, out) = copy();
    let args = ["-q", "Q5_K_M,Q6_K", "--json"];
    let plan = json(&convert(&source, &out, &[&args[..], &["--dry-run"]].concat()));
    assert!(listing(&out).is_empty(), "a dry run writes nothing");
    let done = json(&convert(&source, &out, &args));
    assert!(done["seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(plan["outputs"], done["outputs"]);
    for planned in plan["outputs"].as_array().unwrap() {
        let path = planned["path"].as_str().unwrap();
        assert_eq!(fs::metadata(path).unwrap().len(), planned["bytes"]);
        let shown = json(&run(tulu_quant().args(["inspect", "--json", path]), b""));
        for (a, b) in planned["tensors"].as_array().unwrap().iter().zip(shown["tensors"].as_array().unwrap()) {
            for key in ["name", "type", "bytes", "offset"] {
                assert_eq!(a[key], b[key], "{path}");
            }
        }
    }
}

#[test]
fn folder_of_symbolic_links_converts_alike() {
    let (dir, source, out) = copy();
    // of the same name, because the file contains the name
    let links = dir.path().join("snapshot/source");
    fs::create_dir_all(&links).unwrap();
    for name in listing(&source) {
        std::os::unix::fs::symlink(source.join(&name), links.join(&name)).unwrap();
    }
    for (from, to) in [(&source, "a.gguf"), (&links, "b.gguf")] {
        assert_eq!(convert(from, &out.join(to), &["-q", "F16"]).status.code(), Some(0));
    }
    assert!(fs::read(out.join("a.gguf")).unwrap() == fs::read(out.join("b.gguf")).unwrap());
}

#[test]
fn lossless_gguf_is_a_source_and_a_quantized_one_only_on_request() {
    let (_dir, source, out) = copy();
    assert_eq!(convert(&source, &out, &["-q", "BF16,Q8_0,Q4_K_M"]).status.code(), Some(0));
    let again = out.join("again");
    fs::create_dir(&again).unwrap();
    assert_eq!(convert(&out.join("source-BF16.gguf"), &again, &["-q", "Q4_K_M"]).status.code(), Some(0));
    assert_eq!(listing(&again), ["source-Q4_K_M.gguf"], "the name loses its type");
    let tensors = |path: PathBuf| {
        let shown = json(&run(tulu_quant().args(["inspect", "--json"]).arg(&path), b""));
        let start = shown["tensors"][0]["offset"].as_u64().unwrap();
        fs::read(path).unwrap().split_off(usize::try_from(start).unwrap())
    };
    assert!(tensors(out.join("source-Q4_K_M.gguf")) == tensors(again.join("source-Q4_K_M.gguf")));

    let refused = convert(&out.join("source-Q8_0.gguf"), &again, &["-q", "Q4_0"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(last_line(&refused).contains("error[REQUANTIZE]"), "{}", last_line(&refused));
    let asked = convert(&out.join("source-Q8_0.gguf"), &again, &["-q", "Q4_0", "--allow-requantize"]);
    assert_eq!(asked.status.code(), Some(0), "{asked:?}");
    let own = out.join("source-BF16.gguf");
    let itself = convert(&own, &own, &["-q", "Q4_0", "--force"]);
    assert!(last_line(&itself).contains("is one of the inputs"), "{}", last_line(&itself));
}

#[test]
fn checkpoint_folder_can_be_inspected() {
    let shown = json(&run(tulu_quant().arg("inspect").arg(bundled()).arg("--json"), b""));
    assert_eq!((&shown["bos"], &shown["eos"]), (&1.into(), &2.into()));
    let shards = shown["shards"].as_array().unwrap().iter();
    let shards: Vec<_> =
        shards.map(|s| Path::new(s["path"].as_str().unwrap()).file_name().unwrap().to_owned()).collect();
    assert_eq!(shards, SHARDS);
    let one = json(&run(tulu_quant().args(["inspect", "--json"]).arg(bundled().join(SHARDS[0])), b""));
    let names = |tensors: &mut dyn Iterator<Item = &Value>| tensors.map(|t| t["name"].to_string()).collect::<Vec<_>>();
    let first = names(&mut shown["tensors"].as_array().unwrap().iter().filter(|t| t["shard"] == 0));
    assert_eq!(names(&mut one["tensors"].as_array().unwrap().iter()), first);
    let table = run(tulu_quant().arg("inspect").arg(bundled()), b"");
    assert!(String::from_utf8_lossy(&table.stdout).contains("model.layers.0.self_attn.q_proj.weight"));
}
