//! Opens a GGUF file as the source of a conversion. Its tensors already have llama.cpp's row order, and its metadata is
//! copied as llama-quantize copies it.

#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::as_conversions))]

use crate::byte_source::FileOnDisk;
use crate::checkpoint::config::RopeScaling;
use crate::checkpoint::{
    Algorithm, Checkpoint, Config, ExtraMetadata, Provenance, Shard, SourceTensor, Token, TokenKind, Tokenizer,
};
use crate::error::{Code, Error, Result};
use crate::gguf::{Array, Gguf, TensorInfo, Value, open_parts};
use llama_ext::Ftype;
use llama_ext::tensor_types::MAX_LAYERS;
use std::path::Path;
use std::sync::Arc;

impl Checkpoint {
    /// Opens a LLaMA model's GGUF file of type F32, F16 or BF16, or any part of a split one; with `allow_requantize` also a quantized file, which
    /// loses quality a second time.
    ///
    /// # Errors
    /// [`Code::Gguf`] and [`Code::Config`] when the file or its model is not supported, [`Code::Requantize`] when it is
    /// quantized and `allow_requantize` is false.
    pub fn open_gguf(path: &Path, allow_requantize: bool) -> Result<Self> {
        let (mut gguf, parts) = open_parts(path)?;
        let mut shards = Vec::new();
        let mut tensors: Vec<SourceTensor> = gguf.tensors.iter().map(|t| source_tensor(t, 0)).collect();
        for part in parts {
            shards.push(Shard::new(&part.path, Arc::new(FileOnDisk::new(part.file, part.len))));
            tensors.extend(part.tensors.iter().map(|t| source_tensor(t, shards.len())));
            gguf.tensors.extend(part.tensors);
        }
        check_convertible(&gguf)?;
        let quantized = gguf.tensors.iter().find(|t| t.ggml_type.block_size() > 1);
        if let (Some(t), false) = (quantized, allow_requantize) {
            let what = format!("tensor '{}' is already {}", t.name, t.ggml_type);
            let fix = "start from the checkpoint, or pass --allow-requantize, which loses quality a second time";
            return Err(Error::new(Code::Requantize, path, what, fix));
        }
        let config = Config::from_gguf(&gguf)
            .map_err(|what| Error::new(Code::Config, &gguf.path, what, "only LLaMA models are supported"))?;
        let tokenizer = tokenizer(&gguf, &config)?;
        let chat_template = gguf.str("tokenizer.chat_template").map(str::to_owned);
        shards.insert(0, Shard::new(&gguf.path, Arc::new(FileOnDisk::new(gguf.file, gguf.len))));
        Ok(Self {
            dir: path.to_owned(),
            config,
            tokenizer,
            chat_template,
            shards,
            tensors,
            provenance: Provenance::default(),
            notes: Vec::new(),
            extra_metadata: ExtraMetadata::default(),
            copied_metadata: Some(gguf.pairs),
        })
    }
}

/// Describes a tensor of part number `shard`.
fn source_tensor(t: &TensorInfo, shard: usize) -> SourceTensor {
    SourceTensor {
        name: t.name.clone(),
        dtype: t.ggml_type,
        shape: t.dims.iter().rev().copied().collect(),
        shard,
        offset: t.offset,
        bytes: t.bytes,
        strides: None,
    }
}

/// The limits of config.json, far above every LLaMA model.
const MAX_WIDTH: u32 = 1 << 20;
const MAX_CONTEXT: u32 = 1 << 30;

impl Config {
    /// Reads the configuration of the LLaMA model in a GGUF file. The numbers have the same limits as those of
    /// config.json, so that nothing computed from them overflows.
    ///
    /// # Errors
    /// A message about the first key that is missing or invalid.
    pub fn from_gguf(gguf: &Gguf) -> std::result::Result<Self, String> {
        match gguf.get("general.architecture") {
            Some(Value::Str(name)) if name == "llama" => {}
            Some(other) => return Err(format!("general.architecture is {other}, not llama")),
            None => return Err("general.architecture is missing, not llama".to_owned()),
        }
        let read = Numbers(gguf);
        if gguf.get("llama.expert_count").is_some_and(|value| value.as_u64().is_none_or(|n| n > 1)) {
            return Err("llama.expert_count is set: it is a mixture of experts".to_owned());
        }
        let hidden_size = read.number("llama.embedding_length", MAX_WIDTH)?;
        let heads = read.number("llama.attention.head_count", MAX_WIDTH)?;
        let kv_heads = read.optional("llama.attention.head_count_kv", heads)?.unwrap_or(heads);
        let head_dim = match (read.optional("llama.attention.key_length", MAX_WIDTH)?, hidden_size.checked_div(heads)) {
            (Some(dim), _) => dim,
            (None, Some(dim)) if hidden_size.is_multiple_of(heads) => dim,
            _ => return Err(format!("{hidden_size} values are not a multiple of {heads} heads")),
        };
        if !heads.is_multiple_of(kv_heads) || !head_dim.is_multiple_of(2) {
            return Err(format!(
                "{heads} heads of {head_dim} values and {kv_heads} key-value heads do not fit together"
            ));
        }
        for key in ["llama.attention.value_length", "llama.rope.dimension_count"] {
            if let Some(other) = read.optional(key, MAX_WIDTH)?.filter(|n| *n != head_dim) {
                return Err(format!("{key} is {other}, the heads have {head_dim} values"));
            }
        }
        let rows = gguf.tensors.iter().find(|t| t.name == "token_embd.weight").map(TensorInfo::n_rows);
        let vocab = rows.or_else(|| match gguf.get("tokenizer.ggml.tokens") {
            Some(Value::Array(array)) => u64::try_from(array.len()).ok(),
            _ => None,
        });
        let vocab = vocab.ok_or("has neither token_embd.weight nor tokenizer.ggml.tokens")?;
        let vocab_size = u32::try_from(vocab).ok().filter(|n| (1..=MAX_WIDTH).contains(n));
        let rms_norm_eps = read.positive("llama.attention.layer_norm_rms_epsilon")?;
        Ok(Self {
            hidden_size,
            intermediate_size: read.number("llama.feed_forward_length", MAX_WIDTH)?,
            num_hidden_layers: read.number("llama.block_count", MAX_LAYERS)?,
            num_attention_heads: heads,
            num_key_value_heads: kv_heads,
            head_dim,
            vocab_size: vocab_size.ok_or_else(|| format!("has {vocab} tokens, more than {MAX_WIDTH} or none"))?,
            max_position_embeddings: read.number("llama.context_length", MAX_CONTEXT)?,
            rms_norm_eps: rms_norm_eps.ok_or("llama.attention.layer_norm_rms_epsilon is missing")?,
            rope_theta: read.positive("llama.rope.freq_base")?.unwrap_or(10_000.0),
            rope_scaling: RopeScaling::None,
            tie_word_embeddings: !gguf.tensors.iter().any(|t| t.name == "output.weight"),
            bos_token_id: gguf.u32("tokenizer.ggml.bos_token_id"),
            eos_token_id: gguf.u32("tokenizer.ggml.eos_token_id"),
            pad_token_id: gguf.u32("tokenizer.ggml.padding_token_id"),
        })
    }
}

/// Reads the numbers of a header; llama.cpp accepts them in these types only.
struct Numbers<'a>(&'a Gguf);

impl Numbers<'_> {
    fn optional(&self, key: &str, max: u32) -> std::result::Result<Option<u32>, String> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::U32(n)) if (1..=max).contains(n) => Ok(Some(*n)),
            Some(other) => Err(format!("{key} is {other} ({}), expected a uint32 from 1 to {max}", other.type_name())),
        }
    }

    fn number(&self, key: &str, max: u32) -> std::result::Result<u32, String> {
        self.optional(key, max)?.ok_or_else(|| format!("{key} is missing"))
    }

    fn positive(&self, key: &str) -> std::result::Result<Option<f32>, String> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::F32(x)) if x.is_finite() && *x > 0.0 => Ok(Some(*x)),
            Some(other) => Err(format!("{key} is {other} ({}), expected a positive float32", other.type_name())),
        }
    }
}

/// Rejects tensors of types that are not for weights.
fn check_convertible(gguf: &Gguf) -> Result<()> {
    match gguf.tensors.iter().find(|t| !t.ggml_type.is_weights()) {
        None => Ok(()),
        Some(t) => {
            let what = format!("tensor '{}' is {}, which is not a type for weights", t.name, t.ggml_type);
            let fix = "write the file again as F32, F16 or BF16, or convert the checkpoint";
            Err(Error::new(Code::Type, &gguf.path, what, fix))
        }
    }
}

/// Reads the vocabulary of a GGUF file.
fn tokenizer(gguf: &Gguf, config: &Config) -> Result<Tokenizer> {
    let bad = |what: &str| Error::new(Code::Tokenizer, &gguf.path, what, "convert the checkpoint again");
    let array = |key: &str| match gguf.get(key) {
        Some(Value::Array(array)) => Some(array),
        _ => None,
    };
    let no_scores;
    let (texts, scores, kinds, algorithm) = match (
        gguf.str("tokenizer.ggml.model"),
        array("tokenizer.ggml.tokens"),
        array("tokenizer.ggml.scores"),
        array("tokenizer.ggml.token_type"),
        array("tokenizer.ggml.merges"),
    ) {
        (Some("gpt2"), Some(Array::Str(texts)), _, Some(Array::I32(kinds)), Some(Array::Str(merges))) => {
            no_scores = vec![0.0; texts.len()];
            let pre = gguf.str("tokenizer.ggml.pre").unwrap_or("default").to_owned();
            (texts, &no_scores, kinds, Algorithm::ByteLevelBpe { pre: pre.into(), merges: merges.clone() })
        }
        (Some("gpt2"), ..) => return Err(bad("has no complete BPE vocabulary (tokens, token types, merges)")),
        (_, Some(Array::Str(texts)), Some(Array::F32(scores)), Some(Array::I32(kinds)), _) => {
            (texts, scores, kinds, Algorithm::SentencePiece)
        }
        _ => return Err(bad("has no SentencePiece vocabulary (tokens, scores, token types)")),
    };
    if u32::try_from(texts.len()) != Ok(config.vocab_size) || scores.len() != texts.len() || kinds.len() != texts.len()
    {
        return Err(bad("has a different number of tokens than rows of the embedding"));
    }
    let kind = |id: i32| match id {
        2 => TokenKind::Unknown,
        3 => TokenKind::Control,
        4 => TokenKind::UserDefined,
        5 => TokenKind::Unused,
        6 => TokenKind::Byte,
        _ => TokenKind::Normal,
    };
    let each = texts.iter().zip(scores).zip(kinds);
    let flag = |key: &str| match gguf.get(key) {
        Some(Value::Bool(b)) => Some(*b),
        _ => None,
    };
    Ok(Tokenizer {
        algorithm,
        tokens: each.map(|((text, score), id)| Token { text: text.clone(), score: *score, kind: kind(*id) }).collect(),
        bos: config.bos_token_id,
        eos: config.eos_token_id.ok_or_else(|| bad("has no eos token"))?,
        pad: config.pad_token_id,
        add_bos: flag("tokenizer.ggml.add_bos_token"),
        add_eos: flag("tokenizer.ggml.add_eos_token"),
        add_space_prefix: flag("tokenizer.ggml.add_space_prefix"),
    })
}

/// Returns the pairs of an output: those of the source without its type, alignment, split parts, imatrix and
/// evaluation.
pub(crate) fn pairs(
    copied_metadata: &[(String, Value)],
    ftype: Ftype,
    quantization_version: u32,
) -> Vec<(String, Value)> {
    let replaced = |key: &str| {
        matches!(key, "general.file_type" | "general.quantization_version" | "general.alignment")
            || matches!(key, "tulu_quant.version" | "tulu_quant.ggml")
            || ["split.", "quantize.imatrix.", "tulu_quant.eval."].iter().any(|prefix| key.starts_with(prefix))
    };
    let mut all: Vec<_> = copied_metadata.iter().filter(|(key, _)| !replaced(key)).cloned().collect();
    all.push(("general.quantization_version".to_owned(), Value::U32(quantization_version)));
    all.push(("general.file_type".to_owned(), Value::U32(ftype.id())));
    all
}
