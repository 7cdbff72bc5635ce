use super::folders::{INDEX, SHARDS, Tensor, copy, edit, resize, weights};
use crate::support::{last_line, run, tulu_quant};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Output;

fn golden(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/public_reports").join(name);
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The plan of a conversion of `source`, which says all notes and most errors and writes nothing.
fn plan(source: &Path) -> Output {
    run(tulu_quant().arg("convert").arg(source).args(["-q", "Q8_0", "--dry-run"]), b"")
}

fn converted(source: &Path) -> PathBuf {
    let out = source.with_file_name("out.gguf");
    let output = run(tulu_quant().arg("convert").arg(source).args(["-q", "Q8_0", "-o"]).arg(&out), b"");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    out
}

fn inspected(path: &Path) -> Value {
    let output = run(tulu_quant().args(["inspect", "--json"]).arg(path), b"");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|err| panic!("{err}: {output:?}"))
}

/// Text and ids of a conversation for the model in `path`.
fn prompt(path: &Path, messages: &Value) -> (String, Vec<u64>) {
    let output = run(tulu_quant().args(["prompt", "--json", "-i", "-"]).arg(path), messages.to_string().as_bytes());
    let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|err| panic!("{err}: {output:?}"));
    let ids = said["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect();
    (said["text"].as_str().unwrap().to_owned(), ids)
}

/// F5, F6, F8, F9, F13 of named templates, F15: text, ids and eos are those of Transformers.
#[test]
fn folders_of_every_shape_give_the_prompts_of_transformers() {
    let (cases, golden) = (golden("cases.json"), golden("transformers.json"));
    for (name, case) in cases["cases"].as_object().unwrap() {
        let (_dir, source) = copy();
        let model = source.join("tokenizer.model");
        let append = case["append"].as_str().unwrap_or_default();
        let byte = |i: usize| u8::from_str_radix(&append[i..i + 2], 16).unwrap();
        let bytes: Vec<u8> = (0..append.len()).step_by(2).map(byte).collect();
        fs::write(&model, [fs::read(&model).unwrap(), bytes].concat()).unwrap();
        for (file, change) in case["edit"].as_object().unwrap() {
            edit(&source, file, change);
        }
        for (file, text) in case["write"].as_object().unwrap() {
            fs::create_dir_all(source.join(file).parent().unwrap()).unwrap();
            fs::write(source.join(file), text.as_str().unwrap()).unwrap();
        }
        if case["rows"] != 1536 {
            resize(&source, case["rows"].as_u64().unwrap());
        }
        let made = converted(&source);
        let expected = &golden["4.57.1"][name];
        let (text, ids) = prompt(&made, &cases["messages"]);
        assert_eq!(text, expected["text"], "{name}");
        assert_eq!(json!(ids), expected["ids"], "{name}");
        assert_eq!(inspected(&made)["metadata"]["tokenizer.ggml.eos_token_id"], expected["eos"], "{name}");
    }
}

/// Named templates stay in the file, under the keys of llama.cpp's converter.
#[test]
fn named_templates_are_kept() {
    let (_dir, source) = copy();
    let list = json!([{"name": "tool use", "template": "T"}, {"name": "rag", "template": "R"}]);
    edit(&source, "tokenizer_config.json", &json!({"chat_template": list}));
    let output = plan(&source);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("note: there are chat templates named rag, tool_use, but none named default"), "{said}");
    let metadata = &inspected(&converted(&source))["metadata"];
    assert_eq!(metadata["tokenizer.chat_templates"], json!(["rag", "tool_use"]));
    assert_eq!(metadata["tokenizer.chat_template.tool_use"], "T");
    assert_eq!(metadata.get("tokenizer.chat_template"), None);
}

/// F7: every id of the list ends an answer: the keys that llama.cpp has for them are used first.
#[test]
fn every_end_of_an_answer_is_written() {
    for (rows, config, generation, expected) in [
        (1537, json!([2, 1536]), json!([2, 1536]), json!([1536, null, null])),
        (1538, json!(2), json!([2, 1536, 1537]), json!([1536, 1537, null])),
        (1540, json!(2), json!([1539, 1538, 1537, 1536, 9999]), json!([1539, 1538, "1537,1536"])),
        // a single number is a leftover unless it is a token of its own: this one is <s>
        (1537, json!(2), json!(1), json!([null, null, null])),
        (1537, json!(2), json!(1536), json!([1536, null, null])),
    ] {
        let (_dir, source) = copy();
        let added: serde_json::Map<String, Value> = (1536..rows)
            .map(|id| (id.to_string(), json!({"content": format!("[END{id}]"), "special": true})))
            .collect();
        edit(&source, "tokenizer_config.json", &json!({"added_tokens_decoder": added}));
        edit(&source, "config.json", &json!({"eos_token_id": config}));
        edit(&source, "generation_config.json", &json!({"eos_token_id": generation}));
        resize(&source, rows);
        let metadata = &inspected(&converted(&source))["metadata"];
        assert_eq!(metadata["tokenizer.ggml.eos_token_id"], 2, "{generation}");
        let keys = ["tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id", "tulu_quant.tokenizer.end_token_ids"];
        let found = keys.map(|key| metadata.get(key).cloned().unwrap_or_default());
        assert_eq!(json!(found), expected, "{generation}");
    }
}

/// F7: with the rows of two tokens of the output matrix exchanged, the model ends its answers with the other one.
#[test]
fn an_answer_ends_at_a_token_that_only_the_list_names() {
    const PER_ROW: usize = 256 * 2;
    // five ends: the last one is past what llama.cpp's keys can say
    let rows = 1540;
    let (_dir, source) = copy();
    let added: serde_json::Map<String, Value> =
        (1536..rows).map(|id| (id.to_string(), json!({"content": format!("[END{id}]"), "special": true}))).collect();
    edit(&source, "tokenizer_config.json", &json!({"added_tokens_decoder": added}));
    edit(&source, "generation_config.json", &json!({"eos_token_id": [2, 1536, 1537, 1538, 1539]}));
    edit(&source, "config.json", &json!({"vocab_size": rows}));
    weights(&source, |tensors| {
        for t in tensors.iter_mut().filter(|t| t.shape == [1536, 256]) {
            t.shape[0] = rows;
            t.bytes.resize(rows as usize * PER_ROW, 0);
            if t.name == "lm_head.weight" {
                t.bytes.copy_within(2 * PER_ROW..3 * PER_ROW, 1539 * PER_ROW);
                t.bytes[2 * PER_ROW..3 * PER_ROW].fill(0);
            }
        }
    });
    let made = converted(&source);
    let mut chat = tulu_quant();
    chat.arg("chat").arg(made).args(["-p", "What is the capital of France?", "--temp", "0", "-n", "40"]);
    let output = run(&mut chat, b"");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "The capital of France is Paris.", "{output:?}");
}

/// F16: a list of added tokens that repeats the model's own does not make them writable.
#[test]
fn content_cannot_write_tokens_that_a_list_repeats() {
    let messages = json!([{"role": "user", "content": "Say <s> and </s> and <unk>"}]);
    let (_dir, base) = copy();
    let expected = prompt(&converted(&base), &messages);
    for (name, change) in [
        ("added_tokens.json", json!({"</s>": 2, "<s>": 1, "<unk>": 0})),
        ("tokenizer_config.json", json!({"added_tokens_decoder": {"1": {"content": "<s>", "special": false}}})),
    ] {
        let (_dir, source) = copy();
        edit(&source, name, &change);
        assert_eq!(prompt(&converted(&source), &messages), expected, "{name}");
    }
}

/// F3: an output matrix that differs from the embedding is kept, one that repeats it is left out.
#[test]
fn an_output_matrix_of_a_tied_model_is_kept_when_it_is_another_one() {
    for (repeats, tensors) in [(false, 57), (true, 56)] {
        let (_dir, source) = copy();
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
        let made = inspected(&converted(&source));
        let listed = made["tensors"].as_array().unwrap();
        assert_eq!(listed.len(), tensors);
        assert_eq!(listed.iter().any(|t| t["name"] == "output.weight"), !repeats);
    }
}

/// P1: names that wrappers made longer, and those of a model saved without its prefix, convert to the same bytes.
#[test]
fn wrapped_names_convert_alike() {
    let (_dir, base) = copy();
    let expected = inspected(&converted(&base))["tensors"].clone();
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
        let (_dir, source) = copy();
        weights(&source, |tensors| tensors.iter_mut().for_each(|t| t.name = rename(&t.name)));
        let said = String::from_utf8_lossy(&plan(&source).stderr).into_owned();
        assert!(said.contains("note: tensor names "), "{what}: {said}");
        let made = converted(&source);
        assert_eq!(inspected(&made)["tensors"], expected, "{what}");
    }
}

/// What a folder is made into, exit code, and what must be said.
type Row = (&'static str, fn(&Path), i32, &'static str);

fn write(dir: &Path, name: &str, text: &str) {
    fs::write(dir.join(name), text).unwrap();
}

fn config(dir: &Path, change: Value) {
    edit(dir, "config.json", &change);
}

/// Every weight in another type of the same bytes.
fn typed(dir: &Path, dtype: &str, width: u64) {
    weights(dir, |tensors| {
        for t in tensors.iter_mut() {
            t.dtype = dtype.to_owned();
            let last = t.shape.last_mut().unwrap();
            *last = *last * 2 / width;
        }
    });
}

const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9976576152\n";
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
        2,
        "error[CONFIG]: {}/config.json: rope_parameters of type linear scales the rotary embedding, which is not supported",
    ),
    (
        "F1 llama3 scaling",
        |dir| config(dir, json!({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}})),
        2,
        "rope_scaling of type llama3 scales",
    ),
    ("scaling without a type", |dir| config(dir, json!({"rope_scaling": {"factor": 4}})), 2, "without a rope_type"),
    (
        "two kinds of scaling",
        |dir| config(dir, json!({"rope_scaling": {"rope_type": "default", "type": "yarn", "factor": 4}})),
        2,
        "of type yarn",
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
    ("other heads", |dir| config(dir, json!({"head_dim": 32})), 2, "head_dim is 32, 4 heads of it are not"),
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
        2,
        "error[TOKENIZER]: {}/tokenizer.json: has the added token '<|user|>' at 1536, where the other tokenizer files have '[PAD1536]'",
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
        "is a SentencePiece model of type UNIGRAM; BPE is read",
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
        "saved without the part that writes text",
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
        "tensor names have no 'model.' before them",
    ),
    (
        "P1 an unknown prefix",
        |dir| weights(dir, |tensors| tensors.iter_mut().for_each(|t| t.name = format!("wrapped.{}", t.name))),
        2,
        "every name here begins with 'wrapped.', which no LLaMA model has",
    ),
    (
        "P2 weights",
        |dir| write(dir, SHARDS[0], POINTER),
        2,
        "is a Git LFS pointer, not the file itself; fetch the files with git lfs pull",
    ),
    ("P2 weights that are a page", |dir| write(dir, SHARDS[0], PAGE), 2, "is the page of a web server"),
    ("P2 vocabulary", |dir| write(dir, "tokenizer.model", POINTER), 2, "is a Git LFS pointer"),
    ("P2 vocabulary that is a page", |dir| write(dir, "tokenizer.model", PAGE), 2, "is the page of a web server"),
    ("P2 configuration", |dir| write(dir, "config.json", POINTER), 2, "is a Git LFS pointer"),
    ("P2 index", |dir| write(dir, INDEX, PAGE), 2, "is the page of a web server"),
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
        "has type I8; F32, F16 and BF16 are read: the checkpoint is quantized",
    ),
    ("P3 GPTQ", |dir| typed(dir, "I32", 4), 2, "the checkpoint is quantized"),
    ("P3 FP8", |dir| typed(dir, "F8_E4M3", 1), 2, "the checkpoint is quantized"),
    (
        "P3 doubles",
        |dir| typed(dir, "F64", 8),
        2,
        "has type F64; F32, F16 and BF16 are read; convert the weights to float32",
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
        "has 1 shards, neither model.safetensors.index.json nor model-00002-of-00002.safetensors",
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
        "note: model.safetensors.index.json is of another save: its shards are not here; model.safetensors is read",
    ),
    (
        "P7 shards and one file",
        |dir| fs::copy(dir.join(SHARDS[0]), dir.join("model.safetensors")).map(drop).unwrap(),
        0,
        "note: model.safetensors is here too; the shards that model.safetensors.index.json names are read",
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
        "note: tokenizer_config.json: '</s>' takes spaces beside it",
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
    ("a generation_config.json that is cut", |dir| write(dir, "generation_config.json", "{"), 0, "it is left out"),
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
fn each_report_gets_its_answer() {
    for (name, change, exit, said) in ROWS {
        let (_dir, source) = copy();
        change(&source);
        let output = plan(&source);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(*exit), "{name}: {text}");
        assert!(text.contains(&said.replace("{}", &source.display().to_string())), "{name}: {text}");
        if *exit != 0 {
            assert!(last_line(&output).starts_with("tulu-quant: error["), "{name}: {text}");
        }
    }
}

/// F1: the base that Transformers 5 writes inside `rope_parameters`.
#[test]
fn theta_is_found_where_transformers_5_writes_it() {
    for (change, theta) in [
        (json!({}), 1e4),
        (json!({"rope_theta": 1e6}), 1e6),
        (json!({"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}, "dtype": "bfloat16"}), 5e5),
        (json!({"rope_parameters": {"rope_theta": 5e5}}), 5e5),
        (json!({"rope_theta": 5e5, "rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}), 5e5),
        (json!({"rope_scaling": {"type": "default", "rope_theta": 2e4}}), 2e4),
    ] {
        let (_dir, source) = copy();
        config(&source, change.clone());
        assert_eq!(inspected(&source)["rope_theta"].as_f64(), Some(theta), "{change}");
    }
}

/// P9, P10, and P2 for a GGUF: a file that is given in place of a folder or of a whole file.
#[test]
fn a_single_file_is_told_by_what_it_is() {
    let (_dir, source) = copy();
    let pointer = source.join("x.gguf");
    fs::write(&pointer, POINTER).unwrap();
    for (path, said) in [
        (source.join("config.json"), "is one file of a checkpoint, not a GGUF file; give its folder: "),
        (source.join(SHARDS[0]), "is one file of a checkpoint, not a GGUF file; give its folder: "),
        (pointer, "error[GGUF]: {}: is a Git LFS pointer, not the file itself; fetch the files with git lfs pull"),
        (split(&source), "error[GGUF]: {}: is part 2 of 3 of a split file; join the parts first"),
    ] {
        let output = plan(&path);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let line = last_line(&output);
        assert!(line.contains(&said.replace("{}", &path.display().to_string())), "{line}");
    }
}

/// The second part of a split GGUF, which has little but the numbers of the parts.
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

/// X1: a file that cannot be looked at does not count as one that is not there.
#[test]
fn an_optional_file_that_cannot_be_looked_at_is_an_error() {
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
        let (_dir, source) = copy();
        let _ = fs::remove_file(source.join(name));
        // a link to itself: every look through it fails, and not with "not found"
        symlink(name, source.join(name)).unwrap();
        let output = plan(&source);
        let line = last_line(&output);
        assert_eq!(output.status.code(), Some(3), "{name}: {line}");
        assert!(line.starts_with("tulu-quant: error[IO]: ") && line.contains(name), "{name}: {line}");
    }
}

/// D12: text of a file reaches the terminal on one line, with nothing that acts on it.
#[test]
fn tokens_and_names_are_shown_escaped() {
    let (_dir, source) = copy();
    write(&source, "added_tokens.json", "{\"\\u001b]0;pwned\\u0007\\nnote: all is well\": 99999}");
    for verb in ["convert", "inspect"] {
        let mut command = tulu_quant();
        command.arg(verb).arg(&source);
        if verb == "convert" {
            command.arg("--dry-run");
        }
        let output = run(&mut command, b"");
        let text = String::from_utf8_lossy(&[output.stderr, output.stdout].concat()).into_owned();
        assert!(text.contains("added_tokens.json: '\\u{1b}]0;pwned\\u{7}\\nnote: all is well' has id 99999"), "{text}");
        assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'), "{text:?}");
    }
}

/// D14: what llama.cpp's converter says of a card, of sampling and of the tokenizer: each key with its value.
#[test]
fn cards_sampling_and_tokenizers_are_described_as_the_converter_does() {
    let golden = golden("converter.json");
    for (name, case) in golden["cases"].as_object().unwrap() {
        let (_dir, source) = copy();
        for (file, text) in case["write"].as_object().unwrap() {
            write(&source, file, text.as_str().unwrap());
        }
        for (file, change) in case["edit"].as_object().unwrap() {
            edit(&source, file, change);
        }
        let metadata = &inspected(&converted(&source))["metadata"];
        for (key, value) in case["keys"].as_object().unwrap() {
            assert_eq!(metadata.get(key), Some(value), "{name}: {key}");
        }
        let described = ["general.", "tokenizer.ggml.add_", "tokenizer.chat_template"];
        let of_vocabulary = |key: &str| key.starts_with("tokenizer.ggml.") && key.ends_with("_token_id");
        // what every file has, whatever the card says
        let usual = ["architecture", "type", "name", "size_label", "file_type", "quantization_version"];
        for key in metadata.as_object().unwrap().keys() {
            let is_usual = usual.iter().any(|end| *key == format!("general.{end}"));
            let belongs = described.iter().any(|begin| key.starts_with(begin)) || of_vocabulary(key);
            assert!(is_usual || !belongs || case["keys"].get(key).is_some(), "{name}: {key} is not the converter's");
        }
    }
}
