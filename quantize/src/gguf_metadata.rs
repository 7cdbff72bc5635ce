//! Builds the metadata of an output. Keys, types, values and order are those that llama.cpp's `convert_hf_to_gguf.py`
//! and then `llama-quantize` write for a LLaMA model; provenance under `tulu_quant.` is added.

use crate::checkpoint::config::RopeScaling;
use crate::checkpoint::{Algorithm, Checkpoint, Tokenizer};
use crate::gguf::{Array, Value};
use crate::gguf_naming::Naming;
use crate::gguf_source;
use crate::imatrix::Imatrix;
use llama_ext::Ftype;
use std::collections::HashSet;

/// `GGML_QNT_VERSION`: the layout of the quantized blocks.
const QUANTIZATION_VERSION: u32 = 2;

/// Returns all key-value pairs of the file for `ftype`.
pub(crate) fn pairs(
    source: &Checkpoint,
    ftype: Ftype,
    n_params: u64,
    imatrix: Option<&Imatrix>,
) -> Vec<(String, Value)> {
    if let Some(copied_metadata) = &source.copied_metadata {
        let mut all = gguf_source::pairs(copied_metadata, ftype, QUANTIZATION_VERSION);
        all.extend(quantization(imatrix));
        all.extend(provenance(source));
        return all;
    }
    let (c, t) = (&source.config, &source.tokenizer);
    let mut all = Vec::new();
    let mut put = |key: &str, value: Value| all.push((key.to_owned(), value));
    let text = |s: &str| Value::Str(s.to_owned());

    put("general.architecture", text("llama"));
    put("general.type", text("model"));
    all.extend(source.extra_metadata.sampling.iter().cloned());
    all.extend(general(source, n_params));
    let mut put = |key: &str, value: Value| all.push((key.to_owned(), value));
    put("llama.block_count", Value::U32(c.num_hidden_layers));
    put("llama.context_length", Value::U32(c.max_position_embeddings));
    put("llama.embedding_length", Value::U32(c.hidden_size));
    put("llama.feed_forward_length", Value::U32(c.intermediate_size));
    put("llama.attention.head_count", Value::U32(c.num_attention_heads));
    put("llama.attention.head_count_kv", Value::U32(c.num_key_value_heads));
    rope_scaling(c.rope_scaling, &mut put);
    put("llama.rope.freq_base", Value::F32(c.rope_theta));
    put("llama.attention.layer_norm_rms_epsilon", Value::F32(c.rms_norm_eps));
    put("llama.attention.key_length", Value::U32(c.head_dim));
    put("llama.attention.value_length", Value::U32(c.head_dim));
    put("general.file_type", Value::U32(ftype.id()));
    put("llama.vocab_size", Value::U32(c.vocab_size));
    put("llama.rope.dimension_count", Value::U32(c.head_dim));
    put("general.quantization_version", Value::U32(QUANTIZATION_VERSION));
    vocabulary(t, &mut put);
    let extra_metadata = &source.extra_metadata;
    all.extend(extra_metadata.tokenizer.ids.iter().chain(&extra_metadata.tokenizer.adds).cloned());
    all.extend(templates(source));
    all.extend(extra_metadata.tokenizer.ends.iter().cloned());
    all.extend(quantization(imatrix));
    all.extend(provenance(source));
    all.extend(extra_metadata.tokenizer.own.iter().cloned());
    all
}

/// The scaling of the rotary embedding, as far as it is metadata: that of Llama 3 is a tensor (`rope_factors.rs`).
fn rope_scaling(scaling: RopeScaling, put: &mut impl FnMut(&str, Value)) {
    let mut put = |key: &str, value: Value| put(&format!("llama.rope.scaling.{key}"), value);
    match scaling {
        RopeScaling::None | RopeScaling::Llama3 { .. } => {}
        RopeScaling::Linear { factor } => {
            put("type", Value::Str("linear".to_owned()));
            put("factor", Value::F32(factor));
        }
        RopeScaling::Yarn {
            factor,
            original_context,
            extrapolation_factor,
            attention_factor,
            beta_fast,
            beta_slow,
        } => {
            put("type", Value::Str("yarn".to_owned()));
            put("factor", Value::F32(factor));
            put("original_context_length", Value::U32(original_context));
            let others = [
                ("yarn_ext_factor", extrapolation_factor),
                ("yarn_attn_factor", attention_factor),
                ("yarn_beta_fast", beta_fast),
                ("yarn_beta_slow", beta_slow),
            ];
            for (key, value) in others {
                value.into_iter().for_each(|value| put(key, Value::F32(value)));
            }
        }
    }
}

/// The vocabulary, and the ids of bos and eos.
fn vocabulary(t: &Tokenizer, put: &mut impl FnMut(&str, Value)) {
    let mut put = |key: &str, value: Value| put(&format!("tokenizer.ggml.{key}"), value);
    let (model, pre, merges) = match &t.algorithm {
        Algorithm::SentencePiece => ("llama", "default", None),
        Algorithm::ByteLevelBpe { pre, merges } => ("gpt2", pre.as_ref(), Some(merges)),
    };
    put("model", Value::Str(model.to_owned()));
    put("pre", Value::Str(pre.to_owned()));
    put("tokens", Value::Array(Array::Str(t.tokens.iter().map(|t| t.text.clone()).collect())));
    if merges.is_none() {
        put("scores", Value::Array(Array::F32(t.tokens.iter().map(|t| t.score).collect())));
    }
    put("token_type", Value::Array(Array::I32(t.tokens.iter().map(|t| t.kind as i32).collect())));
    if let Some(merges) = merges {
        put("merges", Value::Array(Array::Str(merges.clone())));
    }
    if let Some(add) = t.add_space_prefix {
        put("add_space_prefix", Value::Bool(add));
    }
    if let Some(bos) = t.bos {
        put("bos_token_id", Value::U32(bos));
    }
    put("eos_token_id", Value::U32(t.eos));
}

/// The `general.` pairs. Those from a Tulu model's name replace those from the model card; `general.name` is the
/// repository's name.
fn general(source: &Checkpoint, n_params: u64) -> Vec<(String, Value)> {
    let named = match Naming::of(&source.name()) {
        None => Vec::new(),
        Some(naming) => vec![
            ("basename", Some(naming.basename)),
            ("finetune", naming.finetune),
            ("version", naming.version),
            ("size_label", Some(naming.size_label)),
        ],
    };
    let mut all = vec![("general.name".to_owned(), Value::Str(source.name()))];
    let named = named.into_iter().filter_map(|(key, value)| Some((format!("general.{key}"), Value::Str(value?))));
    all.extend(named);
    let card = &source.extra_metadata.card;
    let has = |all: &[(String, Value)]| all.iter().any(|(key, _)| key == "general.size_label");
    if !has(&all) && !has(card) {
        all.push(("general.size_label".to_owned(), Value::Str(size_label(n_params))));
    }
    let known: HashSet<String> = all.iter().map(|(key, _)| key.clone()).collect();
    all.extend(card.iter().filter(|(key, _)| !known.contains(key)).cloned());
    all
}

/// The chat templates: the default one under the usual key, named ones under keys of their own.
fn templates(source: &Checkpoint) -> Vec<(String, Value)> {
    let named = &source.extra_metadata.templates;
    let one = |(name, text): &(String, String)| (format!("tokenizer.chat_template.{name}"), Value::Str(text.clone()));
    let mut all: Vec<_> = named.iter().map(one).collect();
    if !named.is_empty() {
        let names = named.iter().map(|(name, _)| name.clone()).collect();
        all.push(("tokenizer.chat_templates".to_owned(), Value::Array(Array::Str(names))));
    }
    let default = source.chat_template.as_ref();
    all.extend(default.map(|text| ("tokenizer.chat_template".to_owned(), Value::Str(text.clone()))));
    all
}

/// The imatrix metadata, as llama-quantize writes it.
fn quantization(imatrix: Option<&Imatrix>) -> Vec<(String, Value)> {
    let Some(imatrix) = imatrix else { return Vec::new() };
    let count = u32::try_from(imatrix.entries.len()).unwrap_or(u32::MAX);
    let mut all = vec![("file", Value::Str(truncated(&imatrix.file).to_owned())), ("entries_count", Value::U32(count))];
    all.extend(imatrix.dataset.as_deref().map(|dataset| ("dataset", Value::Str(truncated(dataset).to_owned()))));
    if imatrix.chunks > 0 {
        all.push(("chunks_count", Value::U32(imatrix.chunks)));
    }
    all.into_iter().map(|(key, value)| (format!("quantize.imatrix.{key}"), value)).collect()
}

/// The provenance, under keys of this program.
fn provenance(source: &Checkpoint) -> Vec<(String, Value)> {
    let p = &source.provenance;
    let mut all = vec![
        ("version", Value::Str(env!("CARGO_PKG_VERSION").to_owned())),
        ("ggml", Value::Str(llama_ext::ggml_version())),
    ];
    all.extend(p.repository.clone().map(|r| ("source.repository", Value::Str(r))));
    all.extend(p.revision.clone().map(|r| ("source.revision", Value::Str(r))));
    if !p.sha256.is_empty() {
        let (files, hashes) = p.sha256.iter().cloned().unzip();
        all.push(("source.files", Value::Array(Array::Str(files))));
        all.push(("source.sha256", Value::Array(Array::Str(hashes))));
    }
    all.into_iter().map(|(key, value)| (format!("tulu_quant.{key}"), value)).collect()
}

/// Truncates `text` to the 127 bytes that llama-quantize can store.
fn truncated(text: &str) -> &str {
    let end = text.char_indices().map(|(i, c)| i + c.len_utf8()).take_while(|end| *end <= 127).last();
    &text[..end.unwrap_or(0)]
}

/// Formats the parameter count with two significant digits (`13B`, `6.7B`, `5.8M`), as gguf-py's
/// `model_weight_count_rounded_notation` does.
fn size_label(n_params: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "two digits are kept")]
    let n = n_params as f64;
    let (scaled, unit) = match n {
        n if n > 1e12 => (n * 1e-12, 'T'),
        n if n > 1e9 => (n * 1e-9, 'B'),
        n if n > 1e6 => (n * 1e-6, 'M'),
        n => (n * 1e-3, 'K'),
    };
    let whole = format!("{scaled:.0}");
    let decimals = 2_usize.saturating_sub(whole.trim_start_matches('0').len());
    format!("{scaled:.decimals$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::size_label;

    #[test]
    fn formats_size_labels() {
        let labels = [13_015_864_320, 6_738_415_616, 68_976_648_192, 5_800_000, 400].map(size_label);
        assert_eq!(labels, ["13B", "6.7B", "69B", "5.8M", "0.40K"]);
    }
}
