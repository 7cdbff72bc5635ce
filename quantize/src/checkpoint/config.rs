//! Reads and checks config.json of a LLaMA model. `rope` reads the rotary embedding, `unsupported` rejects options that
//! change the computation, `end_tokens` reads the tokens that end an answer.

mod end_tokens;
mod fields;
mod rope;
mod unsupported;

pub use rope::RopeScaling;

use super::json;
use crate::error::{Code, Error, Result};
use crate::files::exists;
use fields::Fields;
use serde_json::{Map, Value};
use std::path::Path;

/// The numbers of a LLaMA model, under the names of config.json.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Width of the residual stream.
    pub hidden_size: u32,
    /// Width of the feed-forward layer.
    pub intermediate_size: u32,
    /// Number of layers.
    pub num_hidden_layers: u32,
    /// Number of query heads.
    pub num_attention_heads: u32,
    /// Number of key and value heads; smaller than `num_attention_heads` with grouped-query attention.
    pub num_key_value_heads: u32,
    /// Dimensions of one head.
    pub head_dim: u32,
    /// Vocabulary size: rows of the embedding.
    pub vocab_size: u32,
    /// Context size that the model was trained for, in tokens.
    pub max_position_embeddings: u32,
    /// Epsilon of the RMS norm. 1e-6 for Tulu 7B and 13B, 1e-5 for 70B.
    pub rms_norm_eps: f32,
    /// Base of the rotary embedding; 10000 if the file has none (Tulu 2 13B and 70B).
    pub rope_theta: f32,
    /// Scaling of the rotary embedding. A GGUF file that was opened as a source has it in its own metadata and tensors,
    /// which are copied, so this is `None` then.
    pub rope_scaling: RopeScaling,
    /// Whether the embedding is also the output matrix.
    pub tie_word_embeddings: bool,
    /// Begin-of-sequence token in config.json; the tokenizer files take precedence.
    pub bos_token_id: Option<u32>,
    /// End-of-sequence token in config.json; the tokenizer files take precedence.
    pub eos_token_id: Option<u32>,
    /// Padding token, if there is one.
    pub pad_token_id: Option<u32>,
}

/// Limit far above every LLaMA model; with larger numbers products could overflow 64 bits.
const MAX_WIDTH: u64 = 1 << 20;
/// llama.cpp's limit on layers.
const MAX_LAYERS: u64 = llama_ext::tensor_types::MAX_LAYERS as u64;

impl Config {
    /// Reads and checks `dir/config.json`.
    ///
    /// # Errors
    /// [`Code::Architecture`] when the model is not a causal LLaMA model, [`Code::Config`] when a number is missing or
    /// invalid, [`Code::Json`] when the file does not parse.
    pub fn read(dir: &Path) -> Result<Self> {
        Self::read_with(dir, &mut Vec::new()).map(|(config, _)| config)
    }

    /// Like [`Self::read`]; also returns the other contents, and adds warnings to `notes`.
    pub(crate) fn read_with(dir: &Path, notes: &mut Vec<String>) -> Result<(Self, ConfigExtras)> {
        let path = dir.join("config.json");
        if !exists(&path)? {
            if exists(&dir.join("adapter_config.json"))? {
                return Err(adapter(dir));
            }
            if exists(&dir.join("snapshots"))? && exists(&dir.join("refs"))? {
                let fix = "give one of its snapshots (snapshots/COMMIT), or the name of the model";
                return Err(Error::new(Code::NotAFile, dir, "is a repository of the shared cache, not a model", fix));
            }
        }
        let json = json::read_object(&path)?;
        check_architecture(&path, &json)?;
        let fields = Fields { path: &path, json: &json };
        unsupported::check(&fields)?;
        if json.get("auto_map").is_some_and(|map| !map.is_null()) {
            notes.push(
                "config.json has custom code (auto_map), which is ignored: the model is treated as a plain LLaMA"
                    .to_owned(),
            );
        }
        let generation = generation(dir, notes)?;
        let end_tokens = end_tokens::read([&json, &generation]);
        let quantized = unsupported::quantization(&json);
        let extras = ConfigExtras { quantized, end_tokens, json: json.clone(), generation };
        let config = Self::from_fields(&fields)?;
        note_window(&json, config.max_position_embeddings, notes);
        Ok((config, extras))
    }
}

/// The other contents of config.json and generation_config.json.
#[derive(Clone, Debug)]
pub(crate) struct ConfigExtras {
    /// Quantization method, if config.json names one.
    pub(crate) quantized: Option<String>,
    /// Tokens that end an answer, including eos.
    pub(crate) end_tokens: Vec<EndToken>,
    /// The whole config.json.
    pub(crate) json: Map<String, Value>,
    /// The whole generation_config.json; empty when the file does not exist.
    pub(crate) generation: Map<String, Value>,
}

/// Reads generation_config.json. It is optional: a file that does not parse is ignored with a note.
fn generation(dir: &Path, notes: &mut Vec<String>) -> Result<Map<String, Value>> {
    match json::read_optional(&dir.join("generation_config.json")) {
        Ok(found) => Ok(found.unwrap_or_default()),
        Err(err) if err.code == Code::Json => {
            notes.push(format!("generation_config.json {}; it is ignored", err.what));
            Ok(Map::new())
        }
        Err(err) => Err(err),
    }
}

pub(crate) use end_tokens::EndToken;

/// The error for a LoRA adapter.
pub(crate) fn adapter(dir: &Path) -> Error {
    let fix = "merge the adapter into its base model first (peft's merge_and_unload), then convert the result";
    Error::new(Code::Architecture, dir, "is a LoRA adapter, not a model", fix)
}

impl Config {
    /// Reads and checks the numbers.
    fn from_fields(fields: &Fields<'_>) -> Result<Self> {
        let heads = fields.number("num_attention_heads", 1, MAX_WIDTH)?;
        let hidden = fields.number("hidden_size", 1, MAX_WIDTH)?;
        let kv_heads = fields.optional("num_key_value_heads", 1, heads)?.unwrap_or(heads);
        if !heads.is_multiple_of(kv_heads) {
            let what = format!("num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}");
            return Err(fields.bad(what));
        }
        let head_dim = match fields.optional("head_dim", 1, MAX_WIDTH)? {
            Some(dim) if Some(hidden) != dim.checked_mul(heads) => {
                let what = format!("head_dim {dim} × {heads} heads is not the hidden_size {hidden}");
                return Err(Error::new(Code::Config, fields.path, what, "such models are not supported"));
            }
            Some(dim) => dim,
            None if hidden.is_multiple_of(heads) => hidden.checked_div(heads).unwrap_or(0),
            None => {
                return Err(
                    fields.bad(format!("hidden_size {hidden} is not a multiple of num_attention_heads {heads}"))
                );
            }
        };
        if !head_dim.is_multiple_of(2) {
            return Err(fields.bad(format!("head_dim {head_dim} is odd, so heads cannot be rotated in pairs")));
        }
        let max_position_embeddings = to_u32(fields.number("max_position_embeddings", 1, 1 << 30)?);
        let (rope_theta, rope_scaling) = rope::read(fields, max_position_embeddings)?;
        Ok(Self {
            hidden_size: to_u32(hidden),
            intermediate_size: to_u32(fields.number("intermediate_size", 1, MAX_WIDTH)?),
            num_hidden_layers: to_u32(fields.number("num_hidden_layers", 1, MAX_LAYERS)?),
            num_attention_heads: to_u32(heads),
            num_key_value_heads: to_u32(kv_heads),
            head_dim: to_u32(head_dim),
            vocab_size: to_u32(fields.number("vocab_size", 1, MAX_WIDTH)?),
            max_position_embeddings,
            rms_norm_eps: fields.positive("rms_norm_eps")?.unwrap_or(1e-6),
            rope_theta,
            rope_scaling,
            tie_word_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(false),
            bos_token_id: fields.token("bos_token_id"),
            eos_token_id: fields.token("eos_token_id"),
            pad_token_id: fields.token("pad_token_id"),
        })
    }
}

/// Architectures that become `llama` in a GGUF, with the `model_type` by which Transformers chooses the class, and thus
/// the computation.
const ACCEPTED: [(&str, &str); 4] = [
    ("LlamaForCausalLM", "llama"),
    ("LLaMAForCausalLM", "llama"),
    ("LlamaModel", "llama"),
    ("MistralForCausalLM", "mistral"),
];

/// Accepts causal LLaMA models and those that differ only in name. A `LlamaModel` is accepted here; whether it has an
/// output matrix is checked by its tensors.
fn check_architecture(path: &Path, json: &Map<String, Value>) -> Result<()> {
    let named = json.get("architectures").and_then(|list| list.get(0)).and_then(Value::as_str);
    let kind = json.get("model_type").and_then(Value::as_str);
    let refuse = |what: String, fix: &str| Err(Error::new(Code::Architecture, path, what, fix));
    const ONLY: &str = "only Tulu and other LLaMA models, and Mistral, are supported: convert it with llama.cpp's \
                        convert_hf_to_gguf.py";
    let wanted = named.and_then(|name| ACCEPTED.iter().find(|(accepted, _)| *accepted == name));
    match (named, kind, wanted) {
        (Some(name), Some(kind), Some((_, wanted))) if kind != *wanted => {
            refuse(format!("architecture {name} has model_type '{kind}', not '{wanted}'"), ONLY)
        }
        (Some(_), _, Some(_)) | (None, Some("llama" | "mistral"), _) => Ok(()),
        (Some(name), ..)
            if ["ForSequenceClassification", "ForTokenClassification"].iter().any(|end| name.ends_with(end)) =>
        {
            refuse(
                format!("{name} is a reward or value model: it has no output matrix, so it cannot generate text"),
                "convert the policy model instead (tulu-2-dpo-13b, Llama-3.1-Tulu-3-8B, …)",
            )
        }
        (Some(name), ..) => refuse(format!("architecture {name} is not LLaMA"), ONLY),
        (None, ..) => refuse("has no architecture".to_owned(), "only LLaMA models are supported"),
    }
}

/// Adds a note when the model looks back at most `sliding_window` tokens, for which a GGUF of this architecture has no
/// key.
fn note_window(json: &Map<String, Value>, context: u32, notes: &mut Vec<String>) {
    let window = json.get("sliding_window").and_then(Value::as_u64).filter(|n| *n < u64::from(context));
    if let Some(window) = window.filter(|_| json.get("use_sliding_window") != Some(&Value::Bool(false))) {
        notes.push(format!(
            "the model attends to the last {window} tokens only (sliding_window), which llama.cpp does not do for this \
             architecture: use a context of at most {window} tokens (-c {window})"
        ));
    }
}

/// Converts a number that is checked against the limits above, which are at most 2^30.
fn to_u32(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
