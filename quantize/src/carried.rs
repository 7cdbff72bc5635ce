//! A GGUF file as the source of a conversion: its tensors lie in llama.cpp's order already, and its key-value pairs are
//! carried over as llama-quantize carries them.

use crate::checkpoint::{
    self, Checkpoint, Config, Described, Provenance, Shard, SourceTensor, Token, TokenKind, Tokenizer,
};
use crate::error::{Code, Error, Result};
use crate::gguf::{Array, Gguf, Value};
use crate::medium::OnDisk;
use llama_ext::Ftype;
use std::path::Path;
use std::sync::Arc;

impl Checkpoint {
    /// Opens a LLaMA model's GGUF file as a source: F32, F16 and BF16, and with `allow_requantize` quantized ones, which
    /// costs quality twice.
    ///
    /// # Errors
    /// [`Code::Gguf`] and [`Code::Config`] when the file or its model is not what is read, [`Code::Requantize`] when it is
    /// quantized and that was not allowed.
    pub fn open_gguf(path: &Path, allow_requantize: bool) -> Result<Self> {
        let gguf = Gguf::open(path).map_err(|err| checkpoint::not_gguf(path).unwrap_or(err))?;
        if let Some(parts) = gguf.get("split.count").and_then(Value::as_u64).filter(|n| *n > 1) {
            let part = gguf.get("split.no").and_then(Value::as_u64).map_or(0, |n| n.saturating_add(1));
            let what = format!("is part {part} of {parts} of a split file");
            let fix = "join the parts first: llama-gguf-split --merge FIRST-PART OUT.gguf";
            return Err(Error::new(Code::Gguf, path, what, fix));
        }
        let quantized = gguf.tensors.iter().find(|t| t.kind.block_size() > 1);
        if let (Some(t), false) = (quantized, allow_requantize) {
            let what = format!("tensor '{}' is {} already", t.name, t.kind);
            let fix = "start from the checkpoint, or pass --allow-requantize and lose quality twice";
            return Err(Error::new(Code::Requantize, path, what, fix));
        }
        let config = config(&gguf)?;
        let tokenizer = tokenizer(&gguf, &config)?;
        let tensors = gguf
            .tensors
            .iter()
            .map(|t| SourceTensor {
                name: t.name.clone(),
                dtype: t.kind,
                shape: t.dims.iter().rev().copied().collect(),
                shard: 0,
                offset: t.offset,
                bytes: t.bytes,
                strides: None,
            })
            .collect();
        Ok(Self {
            dir: path.to_owned(),
            config,
            tokenizer,
            chat_template: gguf.str("tokenizer.chat_template").map(str::to_owned),
            shards: vec![Shard::new(path, Arc::new(OnDisk::new(gguf.file, gguf.len)))],
            tensors,
            provenance: Provenance::default(),
            notes: Vec::new(),
            described: Described::default(),
            carried: Some(gguf.pairs),
        })
    }
}

/// What config.json would say.
fn config(gguf: &Gguf) -> Result<Config> {
    let bad = |what: String| Error::new(Code::Config, &gguf.path, what, "only LLaMA models are converted");
    if gguf.str("general.architecture") != Some("llama") {
        return Err(bad(format!(
            "general.architecture is {:?}",
            gguf.str("general.architecture").unwrap_or("missing")
        )));
    }
    let number =
        |key: &str| gguf.u32(key).filter(|n| *n > 0).ok_or_else(|| bad(format!("{key} is missing or no number")));
    let float = |key: &str| match gguf.get(key) {
        Some(Value::F32(x)) if x.is_finite() && *x > 0.0 => Some(*x),
        _ => None,
    };
    let (hidden_size, heads) = (number("llama.embedding_length")?, number("llama.attention.head_count")?);
    let head_dim = gguf.u32("llama.attention.key_length").filter(|n| *n > 0);
    let vocab = gguf.tensors.iter().find(|t| t.name == "token_embd.weight").and_then(|t| t.dims.get(1).copied());
    let tied = !gguf.tensors.iter().any(|t| t.name == "output.weight");
    Ok(Config {
        hidden_size,
        intermediate_size: number("llama.feed_forward_length")?,
        num_hidden_layers: number("llama.block_count")?,
        num_attention_heads: heads,
        num_key_value_heads: gguf.u32("llama.attention.head_count_kv").unwrap_or(heads),
        head_dim: head_dim.unwrap_or(hidden_size / heads),
        vocab_size: vocab
            .and_then(|n| u32::try_from(n).ok())
            .ok_or_else(|| bad("has no token_embd.weight".to_owned()))?,
        max_position_embeddings: number("llama.context_length")?,
        rms_norm_eps: float("llama.attention.layer_norm_rms_epsilon")
            .ok_or_else(|| bad("llama.attention.layer_norm_rms_epsilon is missing".to_owned()))?,
        rope_theta: float("llama.rope.freq_base").unwrap_or(10_000.0),
        tie_word_embeddings: tied,
        bos_token_id: gguf.u32("tokenizer.ggml.bos_token_id"),
        eos_token_id: gguf.u32("tokenizer.ggml.eos_token_id"),
        pad_token_id: gguf.u32("tokenizer.ggml.padding_token_id"),
    })
}

fn tokenizer(gguf: &Gguf, config: &Config) -> Result<Tokenizer> {
    let bad = |what: &str| Error::new(Code::Tokenizer, &gguf.path, what, "convert the checkpoint again");
    let array = |key: &str| match gguf.get(key) {
        Some(Value::Array(array)) => Some(array),
        _ => None,
    };
    let (Some(Array::Str(texts)), Some(Array::F32(scores)), Some(Array::I32(kinds))) =
        (array("tokenizer.ggml.tokens"), array("tokenizer.ggml.scores"), array("tokenizer.ggml.token_type"))
    else {
        return Err(bad("has no SentencePiece vocabulary"));
    };
    if texts.len() != config.vocab_size as usize || scores.len() != texts.len() || kinds.len() != texts.len() {
        return Err(bad("has another number of tokens than rows of the embedding"));
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
        tokens: each.map(|((text, score), id)| Token { text: text.clone(), score: *score, kind: kind(*id) }).collect(),
        bos: config.bos_token_id.ok_or_else(|| bad("does not say its bos token"))?,
        eos: config.eos_token_id.ok_or_else(|| bad("does not say its eos token"))?,
        pad: config.pad_token_id,
        add_bos: flag("tokenizer.ggml.add_bos_token"),
        add_eos: flag("tokenizer.ggml.add_eos_token"),
        add_space_prefix: flag("tokenizer.ggml.add_space_prefix"),
    })
}

/// The pairs of a converted file: those of the source, less what is about its own type, its parts and its quantization.
pub(crate) fn pairs(carried: &[(String, Value)], ftype: Ftype, quantization_version: u32) -> Vec<(String, Value)> {
    let replaced = |key: &str| {
        matches!(key, "general.file_type" | "general.quantization_version" | "tulu_quant.version" | "tulu_quant.ggml")
            || ["split.", "quantize.imatrix."].iter().any(|prefix| key.starts_with(prefix))
    };
    let mut all: Vec<_> = carried.iter().filter(|(key, _)| !replaced(key)).cloned().collect();
    all.push(("general.quantization_version".to_owned(), Value::U32(quantization_version)));
    all.push(("general.file_type".to_owned(), Value::U32(ftype.id())));
    all
}
