//! Special cases of real checkpoints: added tokens, wrong ids, tied embeddings, names and provenance in the metadata,
//! concurrent conversions.

use crate::fixtures;
use crate::support::{convert_to, edit, listing, options, sha256};
use serde_json::json;
use std::fs;
use std::path::Path;
use tulu_quantize::gguf::{Array, Gguf, Value};
use tulu_quantize::{Checkpoint, Code, Ftype, Plan, QuantizeOptions, Result, Silent, convert};

fn converted(dir: &Path) -> Gguf {
    let out = dir.join("out.gguf");
    convert_to(dir, &out, Ftype::Q8_0).expect("the checkpoint is good");
    Gguf::open(&out).unwrap()
}

fn tokens(gguf: &Gguf) -> (&[String], &[f32], &[i32]) {
    match ["tokens", "scores", "token_type"].map(|key| gguf.get(&format!("tokenizer.ggml.{key}"))) {
        [Some(Value::Array(Array::Str(t))), Some(Value::Array(Array::F32(s))), Some(Value::Array(Array::I32(k)))] => {
            (t, s, k)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn added_tokens_take_rows_past_the_vocabulary_and_the_rest_is_padding() {
    let dir = tempfile::tempdir().unwrap();
    fixtures::Checkpoint::default().write(dir.path());
    // 270 pieces and 300 rows (tulu-1 has 32000 and 32001)
    fs::write(dir.path().join("added_tokens.json"), json!({"<pad>": 270, "<far>": 900}).to_string()).unwrap();
    edit(&dir.path().join("tokenizer_config.json"), |json| {
        json["added_tokens_decoder"] =
            json!({"271": {"content": "<|note|>", "special": false}, "272": {"content": "\u{2581}x"}});
    });
    let notes = Checkpoint::open(dir.path()).unwrap().notes;
    assert!(notes.iter().any(|note| note.contains("<far>") && note.contains("900")), "{notes:?}");
    let gguf = converted(dir.path());
    let (text, score, kind) = tokens(&gguf);
    assert_eq!((text[270].as_str(), score[270], kind[270]), ("<pad>", -1000.0, 4));
    assert_eq!((text[271].as_str(), kind[271]), ("<|note|>", 3), "it looks like a control token");
    assert_eq!((text[272].as_str(), kind[272]), (" x", 4));
    assert_eq!((text[299].as_str(), score[299], kind[299]), ("[PAD299]", -10000.0, 5));
}

#[test]
fn wrong_token_ids_in_config_are_taken_from_the_vocabulary() {
    let dir = tempfile::tempdir().unwrap();
    fixtures::Checkpoint::default().write(dir.path());
    // as in generation_config.json of some Tulu 2.5 repositories: with these ids a model would never stop
    edit(&dir.path().join("config.json"), |json| {
        json["bos_token_id"] = 0.into();
        json["eos_token_id"] = 1.into();
    });
    let notes = Checkpoint::open(dir.path()).unwrap().notes;
    assert_eq!(notes.len(), 2, "{notes:?}");
    let gguf = converted(dir.path());
    assert_eq!(gguf.u32("tokenizer.ggml.bos_token_id"), Some(1));
    assert_eq!(gguf.u32("tokenizer.ggml.eos_token_id"), Some(2));
}

#[test]
fn tied_model_keeps_only_a_different_output_matrix() {
    let layers = fixtures::Checkpoint::default().shapes().len();
    // equal and different bytes, in one file and in two
    for (repeats, shards) in [(true, 1), (false, 1), (true, 2), (false, 2)] {
        let dir = tempfile::tempdir().unwrap();
        let source = fixtures::Checkpoint { shards, ..Default::default() };
        source.write(dir.path());
        edit(&dir.path().join("config.json"), |json| json["tie_word_embeddings"] = true.into());
        if repeats {
            let mut tensors = source.tensors();
            let (first, head) = (tensors[0].2.clone(), tensors.last_mut().unwrap());
            head.2 = first;
            let per_shard = tensors.len().div_ceil(shards);
            for (i, part) in tensors.chunks(per_shard).enumerate() {
                let of = format!("model-{:05}-of-{shards:05}.safetensors", i + 1);
                let name = if shards == 1 { "model.safetensors".to_owned() } else { of };
                fs::write(dir.path().join(name), fixtures::safetensors(source.dtype(), part)).unwrap();
            }
        }
        let gguf = converted(dir.path());
        assert_eq!(gguf.tensors.iter().any(|t| t.name == "output.weight"), !repeats, "{repeats} {shards}");
        assert_eq!(gguf.tensors.len(), layers - usize::from(repeats), "{repeats} {shards}");
    }
}

#[test]
fn codellama_vocabulary_has_an_end_of_turn_token() {
    for (vocab, eot) in [(32_016, Some(32_010)), (32_000, None)] {
        let dir = tempfile::tempdir().unwrap();
        fixtures::Checkpoint { hidden: 32, ffn: 32, heads: 1, kv_heads: 1, layers: 1, vocab, ..Default::default() }
            .write(dir.path());
        let gguf = converted(dir.path());
        assert_eq!(gguf.u32("tokenizer.ggml.eot_token_id"), eot, "{vocab}");
        assert_eq!(gguf.u32("tokenizer.ggml.eom_token_id"), None, "{vocab}");
    }
}

#[test]
fn cache_snapshot_is_named_after_its_repository() {
    let dir = tempfile::tempdir().unwrap();
    let revision = "0f".repeat(20);
    let repository = dir.path().join("models--allenai--tulu-v2.5-ppo-13b-uf-mean");
    let (blobs, snapshot) = (repository.join("blobs"), repository.join("snapshots").join(&revision));
    fs::create_dir_all(&blobs).unwrap();
    fixtures::Checkpoint { shards: 1, ..Default::default() }.write(&snapshot);
    let bytes = fs::read(snapshot.join("model.safetensors")).unwrap();
    let hash = sha256(&bytes);
    fs::rename(snapshot.join("model.safetensors"), blobs.join(&hash)).unwrap();
    std::os::unix::fs::symlink(format!("../../blobs/{hash}"), snapshot.join("model.safetensors")).unwrap();
    let out = dir.path().join("out.gguf");
    convert_to(&snapshot, &out, Ftype::Q4_0).unwrap();
    let gguf = Gguf::open(&out).unwrap();
    for (key, value) in [
        ("general.name", "tulu-v2.5-ppo-13b-uf-mean"),
        ("general.basename", "Tulu"),
        ("general.size_label", "13B"),
        ("general.finetune", "PPO-uf-mean"),
        ("general.version", "v2.5"),
        ("tulu_quant.source.repository", "allenai/tulu-v2.5-ppo-13b-uf-mean"),
        ("tulu_quant.source.revision", revision.as_str()),
    ] {
        assert_eq!(gguf.str(key), Some(value), "{key}");
    }
    let hashes = Some(Value::Array(Array::Str(vec![hash])));
    assert_eq!(gguf.get("tulu_quant.source.sha256").cloned(), hashes);
}

#[test]
fn concurrent_conversions_to_one_output_fail_cleanly() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    fixtures::Checkpoint::default().write(&source);
    let out = dir.path().join("out.gguf");
    let results: Vec<Result<()>> = std::thread::scope(|scope| {
        let both = [0, 1].map(|_| scope.spawn(|| convert_to(&source, &out, Ftype::Q5_K_M)));
        both.map(|thread| thread.join().unwrap()).into()
    });
    let lost: Vec<_> = results.iter().filter_map(|r| r.as_ref().err()).collect();
    assert_eq!(lost.iter().map(|err| err.code).collect::<Vec<_>>(), [Code::OutputExists], "{lost:?}");
    Gguf::open(&out).expect("the winner's file is whole");
    assert_eq!(listing(dir.path()), ["out.gguf", "source"], "nothing else is left");
}

#[test]
fn weights_that_change_during_conversion_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    fixtures::Checkpoint { shards: 1, ..Default::default() }.write(&source);
    let shard = source.join("model.safetensors");
    let whole = fs::read(&shard).unwrap();
    let longer = [&whole[..], &[0]].concat();
    for (name, now) in [("rewritten", &whole), ("grown", &longer), ("cut", &whole[..whole.len() - 100].to_vec())] {
        fs::write(&shard, &whole).unwrap();
        let opened = Checkpoint::open(&source).unwrap();
        let out = dir.path().join("out.gguf");
        let plan = Plan::new(&opened, &[(Ftype::Q4_0, out.clone())], &QuantizeOptions::default()).unwrap();
        // file times have a coarse resolution: wait until the second one is different
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::write(&shard, now).unwrap();
        let err = convert(&opened, &plan, options(1), &Silent).expect_err(name);
        assert_eq!((err.code, err.file.as_path()), (Code::InputChanged, shard.as_path()), "{name}: {err}");
        assert!(!out.exists(), "{name}");
    }
}

#[test]
fn unused_tensors_may_have_any_type() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    fixtures::Checkpoint { shards: 1, ..Default::default() }.write(&source);
    let shard = source.join("model.safetensors");
    let whole = fs::read(&shard).unwrap();
    let n = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let header: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&whole[8..8 + n]).unwrap();
    let data = &whole[8 + n..];
    // the tensor `name` of 4 numbers of 8 bytes each, after the weights
    let with = |name: &str, dtype: &str, len: usize| {
        let mut header = header.clone();
        let entry = serde_json::json!({"dtype": dtype, "shape": [4], "data_offsets": [data.len(), data.len() + len]});
        header.insert(name.to_owned(), entry);
        let text = serde_json::Value::Object(header).to_string();
        let bytes = [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), data, &vec![7; len]].concat();
        fs::write(&shard, bytes).unwrap();
        Checkpoint::open(&source)
    };
    let inv_freq = "model.layers.0.self_attn.rotary_emb.inv_freq";
    for dtype in ["F64", "I64"] {
        let opened = with(inv_freq, dtype, 32).unwrap();
        let plan =
            Plan::new(&opened, &[(Ftype::Q4_0, dir.path().join("out.gguf"))], &QuantizeOptions::default()).unwrap();
        assert_eq!(plan.skipped, [inv_freq], "{dtype}");
    }
    for (name, dtype, len, code) in [
        ("lm_head.bias", "F64", 32, Code::StDtype),
        (inv_freq, "F64", 24, Code::StSize),
        (inv_freq, "F4", 32, Code::StDtype),
    ] {
        assert_eq!(with(name, dtype, len).unwrap_err().code, code, "{name} {dtype} {len}");
    }
}
