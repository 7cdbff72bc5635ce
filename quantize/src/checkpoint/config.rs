//! config.json of a LLaMA model: the numbers, each checked before anything is computed from it. [`rope`] has the rotary
//! embedding, [`computation`] what else would change the computation, [`ends`] the tokens that end an answer.

mod end_tokens;
mod fields;
mod rope;
mod unsupported;

use super::json;
use crate::error::{Code, Error, Result};
use crate::files::is_there;
use fields::Fields;
use serde_json::{Map, Value};
use std::path::Path;

/// The numbers of a LLaMA model. Names are config.json's.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Width of the residual stream.
    pub hidden_size: u32,
    /// Width of the feed-forward layer.
    pub intermediate_size: u32,
    /// Layers.
    pub num_hidden_layers: u32,
    /// Query heads.
    pub num_attention_heads: u32,
    /// Key and value heads: fewer than the query heads when they are grouped.
    pub num_key_value_heads: u32,
    /// Width of one head.
    pub head_dim: u32,
    /// Rows of the embedding.
    pub vocab_size: u32,
    /// Tokens the model was made for.
    pub max_position_embeddings: u32,
    /// Added under the root of the RMS norm. 1e-6 for Tulu 7B and 13B, 1e-5 for 70B.
    pub rms_norm_eps: f32,
    /// Base of the rotary embedding; 10000 where the file does not say (Tulu 2 13B and 70B).
    pub rope_theta: f32,
    /// Whether the output matrix is the embedding.
    pub tie_word_embeddings: bool,
    /// As config.json has them; the tokenizer has the last word.
    pub bos_token_id: Option<u32>,
    /// As config.json has them; the tokenizer has the last word.
    pub eos_token_id: Option<u32>,
    /// Padding, where there is one.
    pub pad_token_id: Option<u32>,
}

/// No LLaMA model comes near these; above them products could leave 64 bits.
const MAX_WIDTH: u64 = 1 << 20;
/// llama.cpp's own limit on layers.
const MAX_LAYERS: u64 = llama_ext::tensor_types::MAX_LAYERS as u64;

impl Config {
    /// Reads and checks `dir/config.json`.
    ///
    /// # Errors
    /// [`Code::Architecture`] when the model is not a LLaMA causal model, [`Code::Config`] when a number is missing or
    /// impossible, [`Code::Json`] when the file does not parse.
    pub fn read(dir: &Path) -> Result<Self> {
        Self::read_with(dir, &mut Vec::new()).map(|(config, _)| config)
    }

    /// As [`Self::read`], with what the numbers have no room for, and notes for the user.
    pub(crate) fn read_with(dir: &Path, notes: &mut Vec<String>) -> Result<(Self, ConfigExtras)> {
        let path = dir.join("config.json");
        if !is_there(&path)? {
            if is_there(&dir.join("adapter_config.json"))? {
                return Err(adapter(dir));
            }
            if is_there(&dir.join("snapshots"))? && is_there(&dir.join("refs"))? {
                let fix = "give one of its snapshots (snapshots/COMMIT), or the name of the model";
                return Err(Error::new(Code::NotAFile, dir, "is a repository of the shared cache, not a model", fix));
            }
        }
        let json = json::read_object(&path)?;
        check_architecture(&path, &json)?;
        let read = Fields { path: &path, json: &json };
        unsupported::check(&read)?;
        if json.get("auto_map").is_some_and(|map| !map.is_null()) {
            notes.push(
                "config.json names code of its own (auto_map), which is not read: the model is taken for a plain LLaMA"
                    .to_owned(),
            );
        }
        let generation = generation(dir, notes)?;
        let ends = end_tokens::of([&json, &generation]);
        let quantized = unsupported::quantization(&json);
        let extras = ConfigExtras { quantized, ends, json: json.clone(), generation };
        Self::from_fields(&read).map(|config| (config, extras))
    }
}

/// What config.json and generation_config.json say extras the numbers.
#[derive(Clone, Debug)]
pub(crate) struct ConfigExtras {
    /// How the weights are said to be quantized.
    pub(crate) quantized: Option<String>,
    /// Ids that end an answer, the eos token's among them.
    pub(crate) ends: Vec<end_tokens::EndToken>,
    /// All of config.json.
    pub(crate) json: Map<String, Value>,
    /// All of generation_config.json; empty when there is none.
    pub(crate) generation: Map<String, Value>,
}

/// generation_config.json. No tool needs it, so one that does not parse is left out with a note.
fn generation(dir: &Path, notes: &mut Vec<String>) -> Result<Map<String, Value>> {
    match json::read_optional(&dir.join("generation_config.json")) {
        Ok(found) => Ok(found.unwrap_or_default()),
        Err(err) if err.code == Code::Json => {
            notes.push(format!("generation_config.json {}; it is left out", err.what));
            Ok(Map::new())
        }
        Err(err) => Err(err),
    }
}

pub(crate) use end_tokens::EndToken;

/// What is said of an adapter, wherever one is found.
pub(crate) fn adapter(dir: &Path) -> Error {
    let fix = "merge the adapter into its base model first (peft's merge_and_unload), then convert the result";
    Error::new(Code::Architecture, dir, "is a LoRA adapter, not a model", fix)
}

impl Config {
    /// Reads and checks the numbers.
    fn from_fields(read: &Fields<'_>) -> Result<Self> {
        let heads = read.number("num_attention_heads", 1, MAX_WIDTH)?;
        let hidden = read.number("hidden_size", 1, MAX_WIDTH)?;
        let kv_heads = read.optional("num_key_value_heads", 1, heads)?.unwrap_or(heads);
        if !heads.is_multiple_of(kv_heads) {
            let what = format!("num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}");
            return Err(read.bad(what));
        }
        let head_dim = match read.optional("head_dim", 1, MAX_WIDTH)? {
            Some(dim) if Some(hidden) != dim.checked_mul(heads) => {
                let what = format!("head_dim is {dim}, {heads} heads of it are not the hidden_size {hidden}");
                return Err(Error::new(
                    Code::Config,
                    read.path,
                    what,
                    "such models are neither converted nor run here",
                ));
            }
            Some(dim) => dim,
            None if hidden.is_multiple_of(heads) => hidden.checked_div(heads).unwrap_or(0),
            None => {
                return Err(read.bad(format!("hidden_size {hidden} is not a multiple of num_attention_heads {heads}")));
            }
        };
        if !head_dim.is_multiple_of(2) {
            return Err(read.bad(format!("heads of {head_dim} dimensions cannot be rotated in pairs")));
        }
        Ok(Self {
            hidden_size: to_u32(hidden),
            intermediate_size: to_u32(read.number("intermediate_size", 1, MAX_WIDTH)?),
            num_hidden_layers: to_u32(read.number("num_hidden_layers", 1, MAX_LAYERS)?),
            num_attention_heads: to_u32(heads),
            num_key_value_heads: to_u32(kv_heads),
            head_dim: to_u32(head_dim),
            vocab_size: to_u32(read.number("vocab_size", 1, MAX_WIDTH)?),
            max_position_embeddings: to_u32(read.number("max_position_embeddings", 1, 1 << 30)?),
            rms_norm_eps: read.positive("rms_norm_eps")?.unwrap_or(1e-6),
            rope_theta: rope::theta(read)?,
            tie_word_embeddings: read.flag("tie_word_embeddings")?.unwrap_or(false),
            bos_token_id: read.token("bos_token_id"),
            eos_token_id: read.token("eos_token_id"),
            pad_token_id: read.token("pad_token_id"),
        })
    }
}

/// Only causal language models of the LLaMA architecture have what a GGUF for chat needs. A `LlamaModel` is one when its
/// output matrix is the embedding; that is seen by its tensors.
fn check_architecture(path: &Path, json: &Map<String, Value>) -> Result<()> {
    let named = json.get("architectures").and_then(|list| list.get(0)).and_then(Value::as_str);
    let kind = json.get("model_type").and_then(Value::as_str);
    let refuse = |what: String, fix: &str| Err(Error::new(Code::Architecture, path, what, fix));
    const ONLY: &str = "only Tulu 2 and 2.5 and other LLaMA models are converted";
    match (named, kind) {
        // Transformers takes the class by model_type, and with it another computation
        (Some(name @ ("LlamaForCausalLM" | "LLaMAForCausalLM" | "LlamaModel")), Some(kind)) if kind != "llama" => {
            refuse(format!("architecture {name} has model_type '{kind}', not 'llama'"), ONLY)
        }
        (Some("LlamaForCausalLM" | "LLaMAForCausalLM" | "LlamaModel"), _) | (None, Some("llama")) => Ok(()),
        (Some(name @ ("LlamaForSequenceClassification" | "LlamaForTokenClassification")), _) => refuse(
            format!("{name} is a reward or value model: it scores text and has no output matrix to write any"),
            "convert the policy model instead (tulu-2-dpo-13b, tulu-v2.5-ppo-13b-…)",
        ),
        (Some(name), _) => refuse(format!("architecture {name} is not LLaMA"), ONLY),
        (None, _) => refuse("names no architecture".to_owned(), "only LLaMA models are converted"),
    }
}

/// The limits above are all under 2^30.
fn to_u32(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
