//! Reports about checkpoints as a table: how the folder is changed, and what is printed.

use super::folders::{Tensor, config, edit, plan, resize, weights, write};
use crate::support::checkpoint::{INDEX, SHARDS, copy};
use crate::support::last_line;
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// A name, a function that changes the folder, the exit code, and a part of stderr.
type Row = (&'static str, fn(&Path), i32, &'static str);

/// Declares the bytes of every weight as another type.
fn typed(dir: &Path, dtype: &str, width: u64) {
    weights(dir, |tensors| {
        for t in tensors.iter_mut() {
            t.dtype = dtype.to_owned();
            let last = t.shape.last_mut().unwrap();
            *last = *last * 2 / width;
        }
    });
}

/// The text that Git leaves in place of a file of Git LFS.
pub(crate) const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9976576152\n";

const PAGE: &str = "<!DOCTYPE html><html><body>Sign in</body></html>";

const ROWS: &[Row] = &[
    (
        "F1 theta of Transformers 5",
        |dir| config(dir, json!({"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}})),
        0,
        "",
    ),
    (
        "F1 linear scaling of Transformers 5",
        |dir| config(dir, json!({"rope_parameters": {"rope_theta": 1e4, "rope_type": "linear", "factor": 4.0}})),
        0,
        "",
    ),
    (
        "F1 dynamic scaling",
        |dir| config(dir, json!({"rope_scaling": {"type": "dynamic", "factor": 4.0}})),
        2,
        "error[CONFIG]: {}/config.json: rope_scaling of type dynamic scales the rotary embedding, which a GGUF cannot store",
    ),
    (
        "F1 llama3 scaling",
        |dir| {
            let scaling = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                 "original_max_position_embeddings": 8192});
            config(dir, json!({"rope_scaling": scaling}))
        },
        0,
        "",
    ),
    (
        "llama3 scaling without its numbers",
        |dir| config(dir, json!({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}})),
        2,
        "low_freq_factor is missing in rope_scaling",
    ),
    (
        "YaRN with a number that a GGUF has no key for",
        |dir| config(dir, json!({"rope_scaling": {"type": "yarn", "factor": 4.0, "mscale": 0.7}})),
        2,
        "rope_scaling has mscale 0.7, which a GGUF cannot store",
    ),
    ("scaling without a type", |dir| config(dir, json!({"rope_scaling": {"factor": 4}})), 2, "without a rope_type"),
    (
        "two kinds of scaling",
        |dir| config(dir, json!({"rope_scaling": {"rope_type": "default", "type": "yarn", "factor": 4}})),
        2,
        "rope_scaling has rope_type default and type yarn",
    ),
    ("scaling that is a word", |dir| config(dir, json!({"rope_scaling": "linear"})), 2, "expected an object"),
    (
        "two thetas",
        |dir| config(dir, json!({"rope_theta": 1e4, "rope_parameters": {"rope_theta": 5e5}})),
        2,
        "rope_theta is 10000, rope_theta in rope_parameters is 500000",
    ),
    ("P19 gelu", |dir| config(dir, json!({"hidden_act": "gelu"})), 2, "hidden_act is \"gelu\"; only silu"),
    (
        "P19 partial rotation",
        |dir| config(dir, json!({"partial_rotary_factor": 0.5})),
        2,
        "partial_rotary_factor is 0.5",
    ),
    (
        "partial rotation of Transformers 5",
        |dir| config(dir, json!({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.25}})),
        2,
        "partial_rotary_factor is 0.25",
    ),
    ("other heads", |dir| config(dir, json!({"head_dim": 32})), 2, "head_dim 32 × 4 heads is not"),
    ("the same heads", |dir| config(dir, json!({"head_dim": 64, "hidden_act": "silu"})), 0, ""),
    ("biases of attention", |dir| config(dir, json!({"attention_bias": true})), 2, "attention_bias is true"),
    ("biases of the feed-forward layer", |dir| config(dir, json!({"mlp_bias": true})), 2, "mlp_bias is true"),
    ("tied by a word", |dir| config(dir, json!({"tie_word_embeddings": "yes"})), 2, "expected true or false"),
    ("another class", |dir| config(dir, json!({"model_type": "mistral"})), 2, "model_type 'mistral', not 'llama'"),
    (
        "F2 added tokens in tokenizer.json only",
        |dir| {
            resize(dir, 1538);
            write(
                dir,
                "tokenizer.json",
                r#"{"added_tokens": [{"id": 0, "content": "<unk>"}, {"id": 1536, "content": "<|user|>"}]}"#,
            );
        },
        0,
        "",
    ),
    (
        "F2 contradictory added tokens",
        |dir| {
            resize(dir, 1538);
            write(dir, "added_tokens.json", r#"{"<pad>": 1536}"#);
            write(dir, "tokenizer.json", r#"{"added_tokens": [{"id": 1536, "content": "<|user|>"}]}"#);
        },
        2,
        "error[TOKENIZER]: {}/tokenizer.json: has the added token '<|user|>' at 1536, where the other tokenizer files have '<pad>'",
    ),
    (
        "F5 two templates",
        |dir| write(dir, "chat_template.jinja", "{{ messages[0].content }}"),
        0,
        "note: chat_template.jinja and tokenizer_config.json have different chat templates; chat_template.jinja is taken",
    ),
    (
        "F9 legacy: false",
        |dir| edit(dir, "tokenizer_config.json", &json!({"legacy": false})),
        0,
        "note: the tokenizer puts a space before a text only at the start of a prompt (legacy: false)",
    ),
    (
        "F15 UNIGRAM",
        |dir| {
            let path = dir.join("tokenizer.model");
            // trainer_spec { model_type: UNIGRAM }, merged into the one that is there
            fs::write(&path, [fs::read(&path).unwrap(), vec![0x12, 2, 0x18, 1]].concat()).unwrap();
        },
        2,
        "is a SentencePiece model of type UNIGRAM; only BPE",
    ),
    (
        "P1 an adapter inside",
        |dir| {
            weights(dir, |tensors| {
                for t in tensors.iter_mut().filter(|t| t.name.contains("q_proj")) {
                    t.name = t.name.replace("q_proj.weight", "q_proj.base_layer.weight");
                }
            });
        },
        2,
        "is of a LoRA adapter that was not merged",
    ),
    (
        "P1 LlamaModel without an output matrix",
        |dir| {
            config(dir, json!({"architectures": ["LlamaModel"]}));
            weights(dir, |tensors| {
                tensors.retain(|t| t.name != "lm_head.weight");
                tensors.iter_mut().for_each(|t| t.name = t.name.replacen("model.", "", 1));
            });
        },
        2,
        "saved without its output matrix",
    ),
    (
        "P1 LlamaModel whose output matrix is the embedding",
        |dir| {
            config(dir, json!({"architectures": ["LlamaModel"], "tie_word_embeddings": true}));
            weights(dir, |tensors| {
                tensors.retain(|t| t.name != "lm_head.weight");
                tensors.iter_mut().for_each(|t| t.name = t.name.replacen("model.", "", 1));
            });
        },
        0,
        "tensor names have no prefix 'model.'",
    ),
    (
        "P1 an unknown prefix",
        |dir| weights(dir, |tensors| tensors.iter_mut().for_each(|t| t.name = format!("wrapped.{}", t.name))),
        2,
        "all tensor names begin with 'wrapped.', unlike those of a LLaMA model",
    ),
    (
        "P2 weights",
        |dir| write(dir, SHARDS[0], POINTER),
        2,
        "is a Git LFS pointer, not the file itself; fetch the files with git lfs pull",
    ),
    ("P2 weights that are a page", |dir| write(dir, SHARDS[0], PAGE), 2, "is a web page"),
    ("P2 vocabulary", |dir| write(dir, "tokenizer.model", POINTER), 2, "is a Git LFS pointer"),
    ("P2 vocabulary that is a page", |dir| write(dir, "tokenizer.model", PAGE), 2, "is a web page"),
    ("P2 configuration", |dir| write(dir, "config.json", POINTER), 2, "is a Git LFS pointer"),
    ("P2 index", |dir| write(dir, INDEX, PAGE), 2, "is a web page"),
    ("P2 template", |dir| write(dir, "chat_template.jinja", POINTER), 2, "is a Git LFS pointer"),
    ("P2 tokenizer.json", |dir| write(dir, "tokenizer.json", POINTER), 2, "is a Git LFS pointer"),
    (
        "P3 bitsandbytes",
        |dir| {
            config(dir, json!({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": true}}));
            typed(dir, "U8", 1);
        },
        2,
        "the checkpoint is quantized (config.json: quantized by bitsandbytes, 4 bits); start from the model's unquantized weights",
    ),
    (
        "P3 eight bits",
        |dir| typed(dir, "I8", 1),
        2,
        "has type I8; F32, F16 and BF16 are supported; the checkpoint is quantized",
    ),
    ("P3 GPTQ", |dir| typed(dir, "I32", 4), 2, "the checkpoint is quantized"),
    ("P3 FP8", |dir| typed(dir, "F8_E4M3", 1), 2, "the checkpoint is quantized"),
    (
        "P3 doubles",
        |dir| typed(dir, "F64", 8),
        2,
        "has type F64; F32, F16 and BF16 are supported; convert the weights to float32",
    ),
    (
        "P3 a scale beside a weight",
        |dir| {
            weights(dir, |tensors| {
                let scale = Tensor { name: "model.layers.0.mlp.up_proj.weight_scale".to_owned(), ..tensors[0].clone() };
                tensors.push(scale);
            });
        },
        2,
        "is part of a quantized weight",
    ),
    ("a stale quantization_config", |dir| config(dir, json!({"quantization_config": {"quant_method": "awq"}})), 0, ""),
    (
        "P4 no index",
        |dir| fs::remove_file(dir.join(INDEX)).unwrap(),
        0,
        "note: model.safetensors.index.json is missing; the 2 shards are read by their names",
    ),
    (
        "P4 no index and no second shard",
        |dir| {
            fs::remove_file(dir.join(INDEX)).unwrap();
            fs::remove_file(dir.join(SHARDS[1])).unwrap();
        },
        2,
        "has 1 shards, but neither model.safetensors.index.json nor model-00002-of-00002.safetensors",
    ),
    (
        "P5 an adapter with config.json",
        |dir| {
            for name in SHARDS.iter().chain([&INDEX]) {
                fs::remove_file(dir.join(name)).unwrap();
            }
            write(dir, "adapter_config.json", "{}");
            write(dir, "adapter_model.safetensors", "");
        },
        2,
        "is a LoRA adapter, not a model",
    ),
    (
        "P6 an index of another save",
        |dir| {
            let index = fs::read(dir.join(INDEX)).unwrap();
            weights(dir, |_| {});
            fs::write(dir.join(INDEX), index).unwrap();
        },
        0,
        "note: model.safetensors.index.json is of another save: its shards are missing; model.safetensors is read",
    ),
    (
        "P7 shards and one file",
        |dir| fs::copy(dir.join(SHARDS[0]), dir.join("model.safetensors")).map(drop).unwrap(),
        0,
        "note: model.safetensors is present too; the shards that model.safetensors.index.json names are read",
    ),
    (
        "P8 a resized vocabulary",
        |dir| {
            resize(dir, 1537);
            config(dir, json!({"vocab_size": 1536}));
        },
        2,
        "has 1537 rows, vocab_size in config.json is 1536; the vocabulary was resized",
    ),
    (
        "P16 a byte order mark",
        |dir| {
            for name in ["config.json", "tokenizer_config.json", "special_tokens_map.json"] {
                fs::write(dir.join(name), [b"\xef\xbb\xbf".to_vec(), fs::read(dir.join(name)).unwrap()].concat())
                    .unwrap();
            }
        },
        0,
        "",
    ),
    (
        "UTF-16",
        |dir| fs::write(dir.join("config.json"), b"\xff\xfe{\0}\0").unwrap(),
        2,
        "is UTF-16 text, not UTF-8; save it as UTF-8",
    ),
    (
        "P20 a token that takes spaces",
        |dir| {
            let token = json!({"content": "</s>", "special": true, "rstrip": true});
            edit(dir, "tokenizer_config.json", &json!({"added_tokens_decoder": {"2": token}}));
        },
        0,
        "note: the added token '</s>' has lstrip, rstrip or single_word set",
    ),
    (
        "P21 a link whose target is gone",
        |dir| {
            weights(dir, |_| {});
            fs::remove_file(dir.join("model.safetensors")).unwrap();
            symlink("../blobs/0", dir.join("model.safetensors")).unwrap();
        },
        2,
        "error[NOT_FOUND]: {}/model.safetensors: is a link whose target is missing; fetch the model again",
    ),
    (
        "P21 a configuration whose target is gone",
        |dir| {
            fs::remove_file(dir.join("tokenizer_config.json")).unwrap();
            symlink("../blobs/0", dir.join("tokenizer_config.json")).unwrap();
        },
        2,
        "{}/tokenizer_config.json: is a link whose target is missing",
    ),
    (
        "an index of each format and shards of none",
        |dir| {
            for name in SHARDS {
                fs::remove_file(dir.join(name)).unwrap();
            }
            write(dir, "pytorch_model.bin.index.json", r#"{"weight_map": {"x": "pytorch_model-00001-of-00001.bin"}}"#);
            write(dir, "training_args.bin", "");
        },
        2,
        "error[INDEX_SHARDS]: {}/model.safetensors.index.json: 2 of 2 shards are missing",
    ),
    (
        "a pipe in a file's place",
        |dir| {
            let pipe = dir.join("special_tokens_map.json");
            fs::remove_file(&pipe).unwrap();
            assert!(std::process::Command::new("mkfifo").arg(pipe).status().unwrap().success());
        },
        2,
        "error[NOT_A_FILE]: {}/special_tokens_map.json: is not a regular file",
    ),
    (
        "tensors that no loader reads",
        |dir| {
            weights(dir, |tensors| {
                let name = "model.layers.0.self_attn.rotary_emb.inv_freq".to_owned();
                tensors.push(Tensor { name, ..tensors[0].clone() });
            });
        },
        0,
        "  leaves out 1 tensors that no loader reads, such as model.layers.0.self_attn.rotary_emb.inv_freq",
    ),
    ("a generation_config.json that is cut", |dir| write(dir, "generation_config.json", "{"), 0, "it is ignored"),
    (
        "a card that is no YAML",
        |dir| write(dir, "README.md", "---\nlicense: [\n---\n"),
        0,
        "note: README.md has a front matter that is not YAML",
    ),
    (
        "P21 a repository of the cache",
        |dir| {
            fs::remove_file(dir.join("config.json")).unwrap();
            for name in ["snapshots", "refs"] {
                fs::create_dir(dir.join(name)).unwrap();
            }
        },
        2,
        "is a repository of the shared cache, not a model; give one of its snapshots",
    ),
];

#[test]
fn reported_checkpoints_get_the_expected_result() {
    for (name, change, exit, said) in ROWS {
        let (_dir, source, _) = copy();
        change(&source);
        let output = plan(&source);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(*exit), "{name}: {text}");
        assert!(text.contains(&said.replace("{}", &source.display().to_string())), "{name}: {text}");
        assert!(*exit == 0 || last_line(&output).starts_with("tulu-quant: error["), "{name}: {text}");
    }
}
