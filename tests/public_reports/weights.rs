//! Reports about weights and files: tied matrices, wrapped names, the rotary base, single files.

use super::checkpoint_table::POINTER;
use super::folders::{config, converted, edit, plan, weights};
use crate::support::checkpoint::{INDEX, SHARDS, copy, inspect};
use crate::support::last_line;
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// F3: an output matrix that differs from the embedding is kept, one that repeats it is left out.
#[test]
fn tied_model_keeps_only_a_different_output_matrix() {
    for (repeats, tensors) in [(false, 57), (true, 56)] {
        let (_dir, source, _) = copy();
        edit(&source, "config.json", &json!({"tie_word_embeddings": true}));
        weights(&source, |tensors| {
            let embedding = tensors.iter().find(|t| t.name == "model.embed_tokens.weight").unwrap().bytes.clone();
            let head = tensors.iter_mut().find(|t| t.name == "lm_head.weight").unwrap();
            if repeats {
                head.bytes = embedding;
            }
        });
        let said = String::from_utf8_lossy(&plan(&source).stderr).into_owned();
        assert_eq!(said.contains("lm_head.weight differs from the embedding"), !repeats, "{said}");
        let made = inspect(&converted(&source));
        let listed = made["tensors"].as_array().unwrap();
        assert_eq!(listed.len(), tensors);
        assert_eq!(listed.iter().any(|t| t["name"] == "output.weight"), !repeats);
    }
}

/// P1: names that wrappers made longer, and those of a model saved without its prefix, convert to the same bytes.
#[test]
fn wrapped_names_convert_alike() {
    let (_dir, base, _) = copy();
    let expected = inspect(&converted(&base))["tensors"].clone();
    type Rename = fn(&str) -> String;
    let renames: [(&str, Rename); 6] = [
        ("module.", |name| format!("module.{name}")),
        ("_orig_mod.", |name| format!("_orig_mod.{name}")),
        ("base_model.model.", |name| format!("base_model.model.{name}")),
        ("model.model.", |name| name.replacen("model.", "model.model.", 1)),
        ("model. before all", |name| format!("model.{name}")),
        ("none", |name| name.replacen("model.", "", 1)),
    ];
    for (what, rename) in renames {
        let (_dir, source, _) = copy();
        weights(&source, |tensors| tensors.iter_mut().for_each(|t| t.name = rename(&t.name)));
        let said = String::from_utf8_lossy(&plan(&source).stderr).into_owned();
        assert!(said.contains("note: tensor names "), "{what}: {said}");
        let made = converted(&source);
        assert_eq!(inspect(&made)["tensors"], expected, "{what}");
    }
}

/// F1: the base that Transformers 5 writes inside `rope_parameters`.
#[test]
fn rope_theta_is_read_from_transformers_5_configs() {
    for (change, theta) in [
        (json!({}), 1e4),
        (json!({"rope_theta": 1e6}), 1e6),
        (json!({"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}, "dtype": "bfloat16"}), 5e5),
        (json!({"rope_parameters": {"rope_theta": 5e5}}), 5e5),
        (json!({"rope_theta": 5e5, "rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}), 5e5),
        (json!({"rope_scaling": {"type": "default", "rope_theta": 2e4}}), 2e4),
    ] {
        let (_dir, source, _) = copy();
        config(&source, change.clone());
        assert_eq!(inspect(&source)["rope_theta"].as_f64(), Some(theta), "{change}");
    }
}

/// P9, P10, and P2 for a GGUF: a single file in place of a folder, and a part of a split file.
#[test]
fn single_file_in_place_of_a_folder_is_named() {
    let (_dir, source, _) = copy();
    let pointer = source.join("x.gguf");
    fs::write(&pointer, POINTER).unwrap();
    for (path, said) in [
        (source.join("config.json"), "is one file of a checkpoint, not a GGUF file; give its folder: "),
        (source.join(SHARDS[0]), "is one file of a checkpoint, not a GGUF file; give its folder: "),
        (pointer, "error[GGUF]: {}: is a Git LFS pointer, not the file itself; fetch the files with git lfs pull"),
        (split(&source), "error[GGUF]: {}: is part 2 of 3 of a split file; its name must end in -00002-of-00003.gguf"),
    ] {
        let output = plan(&path);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let line = last_line(&output);
        assert!(line.contains(&said.replace("{}", &path.display().to_string())), "{line}");
    }
}

/// The second part of a split GGUF file, with only the numbers of the parts.
fn split(dir: &Path) -> PathBuf {
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend(0_u64.to_le_bytes());
    bytes.extend(3_u64.to_le_bytes());
    for (key, value) in [("split.no", 1_u16), ("split.count", 3), ("split.tensors.count", 0)] {
        bytes.extend((key.len() as u64).to_le_bytes());
        bytes.extend(key.as_bytes());
        bytes.extend(2_u32.to_le_bytes());
        bytes.extend(value.to_le_bytes());
    }
    bytes.resize(bytes.len().next_multiple_of(32), 0);
    let path = dir.join("part.gguf");
    fs::write(&path, bytes).unwrap();
    path
}

/// X1: an unreadable file does not count as a missing one.
#[test]
fn unreadable_optional_file_is_an_error() {
    for name in [
        "config.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "generation_config.json",
        "added_tokens.json",
        "tokenizer.json",
        "tokenizer.model",
        "chat_template.jinja",
        "additional_chat_templates",
        "README.md",
        INDEX,
        SHARDS[0],
    ] {
        let (_dir, source, _) = copy();
        let _ = fs::remove_file(source.join(name));
        // a link to itself cannot be opened, and the error is not "not found"
        symlink(name, source.join(name)).unwrap();
        let output = plan(&source);
        let line = last_line(&output);
        assert_eq!(output.status.code(), Some(3), "{name}: {line}");
        assert!(line.starts_with("tulu-quant: error[IO]: ") && line.contains(name), "{name}: {line}");
    }
}
