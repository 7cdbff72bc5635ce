//! `inspect`: what is in a GGUF file, a checkpoint folder, or one weight file of a checkpoint.

use crate::error::{Exit, Failure};
use crate::table::{self, Align};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use tulu_quantize::checkpoint::{SourceTensor, open_shard};
use tulu_quantize::gguf::{Array, Gguf};
use tulu_quantize::{Checkpoint, Ftype, GgmlType, gguf};

/// Show the metadata, tensors and sizes of a GGUF file, a checkpoint folder or one of its weight files
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tulu-quant inspect tulu-2-13b-Q4_K_M.gguf\n  tulu-quant inspect tulu-2-13b --json"
)]
pub(crate) struct Args {
    /// A .gguf file, a checkpoint folder, or a .safetensors or .bin file
    path: PathBuf,
    /// Print everything as one JSON object, arrays whole
    #[arg(long, env = "TULU_QUANT_JSON")]
    json: bool,
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<Exit, Failure> {
    let mut notes = Vec::new();
    let text = if super::look(&args.path)?.is_some_and(|found| found.is_dir()) {
        folder(&args.path, args.json)?
    } else if let Some((_, tensors)) = open_shard(&args.path, &mut notes)? {
        shard(&args.path, &tensors, &notes, args.json)
    } else {
        file(&args.path, args.json)?
    };
    crate::stdout(&text)
}

fn file(path: &Path, as_json: bool) -> Result<String, Failure> {
    let gguf = Gguf::open(path)?;
    let ftype = gguf.u32("general.file_type").and_then(Ftype::from_id).map_or("?", Ftype::name);
    if as_json {
        let metadata: Map<String, Value> = gguf.pairs.iter().map(|(k, v)| (k.clone(), to_json(v))).collect();
        let tensors: Vec<Value> = gguf
            .tensors
            .iter()
            .map(|t| json!({"name": t.name, "dims": t.dims, "type": t.kind.name(), "offset": t.offset, "bytes": t.bytes}))
            .collect();
        let all = json!({"path": path.to_string_lossy(), "bytes": gguf.len, "type": ftype, "n_params": gguf.n_params(),
            "kv_bytes_per_token": kv_bytes_per_token(&gguf), "metadata": metadata, "tensors": tensors});
        return Ok(all.to_string() + "\n");
    }
    let mut out = format!(
        "{}: {} {ftype}, {} weights, {} tensors\n",
        crate::sanitize::shown(path),
        table::bytes(gguf.len),
        table::params(gguf.n_params()),
        gguf.tensors.len()
    );
    if let (Some(kv), Some(context)) = (kv_bytes_per_token(&gguf), gguf.u32("llama.context_length")) {
        let window = kv * u64::from(context);
        out += &format!(
            "memory to run: {} of weights + {} of KV cache (f16) for all {context} tokens of context\n",
            table::bytes(gguf.tensors.iter().map(|t| t.bytes).sum()),
            table::bytes(window)
        );
    }
    let mut rows = vec![["key", "type", "value"].map(str::to_owned).to_vec()];
    rows.extend(
        gguf.pairs.iter().map(|(k, v)| vec![crate::sanitize::one_line(k), v.type_name(), shortened(&v.to_string())]),
    );
    out += &format!("\n{}\n", table::render(&[Align::Left, Align::Left, Align::Left], &rows));
    let tensors = gguf.tensors.iter().map(|t| (t.name.as_str(), t.dims.clone(), t.kind, t.bytes));
    out += &tensor_table(tensors);
    Ok(out)
}

fn shard(path: &Path, tensors: &[SourceTensor], notes: &[String], as_json: bool) -> String {
    let n_params: u64 = tensors.iter().map(|t| t.shape.iter().product::<u64>()).sum();
    if as_json {
        let listed: Vec<Value> = tensors.iter().map(tensor_json).collect();
        let all = json!({"path": path.to_string_lossy(), "n_params": n_params, "notes": notes, "tensors": listed});
        return all.to_string() + "\n";
    }
    let mut out =
        format!("{}: {} weights in {} tensors\n", crate::sanitize::shown(path), table::params(n_params), tensors.len());
    notes.iter().for_each(|note| out += &format!("note: {}\n", crate::sanitize::one_line(note)));
    out.push('\n');
    out + &tensor_table(tensors.iter().map(|t| (t.name.as_str(), t.shape.clone(), t.dtype, t.bytes)))
}

fn tensor_json(t: &SourceTensor) -> Value {
    json!({"name": t.name, "shape": t.shape, "type": t.dtype.name(), "shard": t.shard, "offset": t.offset, "bytes": t.bytes})
}

fn folder(path: &Path, as_json: bool) -> Result<String, Failure> {
    let source = Checkpoint::open(path)?;
    let n_params: u64 = source.tensors.iter().map(|t| t.shape.iter().product::<u64>()).sum();
    let c = &source.config;
    if as_json {
        let shards: Vec<Value> =
            source.shards.iter().map(|s| json!({"path": s.path.to_string_lossy(), "bytes": s.len()})).collect();
        let tensors: Vec<Value> = source.tensors.iter().map(tensor_json).collect();
        let all = json!({"path": path.to_string_lossy(), "n_params": n_params, "hidden_size": c.hidden_size,
            "intermediate_size": c.intermediate_size, "num_hidden_layers": c.num_hidden_layers,
            "num_attention_heads": c.num_attention_heads, "num_key_value_heads": c.num_key_value_heads,
            "vocab_size": c.vocab_size, "max_position_embeddings": c.max_position_embeddings,
            "rms_norm_eps": c.rms_norm_eps, "rope_theta": c.rope_theta, "bos": source.tokenizer.bos,
            "eos": source.tokenizer.eos, "chat_template": source.chat_template, "notes": source.notes,
            "shards": shards, "tensors": tensors});
        return Ok(all.to_string() + "\n");
    }
    let mut out = format!(
        "{}: {} weights, {} tensors in {} file(s)\n{} layers of {}, feed-forward {}, {} heads ({} kv), {} tokens, context {}\n\
         bos {} eos {}, chat template: {}\n",
        crate::sanitize::shown(path),
        table::params(n_params),
        source.tensors.len(),
        source.shards.len(),
        c.num_hidden_layers,
        c.hidden_size,
        c.intermediate_size,
        c.num_attention_heads,
        c.num_key_value_heads,
        c.vocab_size,
        c.max_position_embeddings,
        source.tokenizer.bos,
        source.tokenizer.eos,
        if source.chat_template.is_some() { "yes" } else { "none (Tulu's own will be used)" },
    );
    source.notes.iter().for_each(|note| out += &format!("note: {}\n", crate::sanitize::one_line(note)));
    out.push('\n');
    let tensors = source.tensors.iter().map(|t| (t.name.as_str(), t.shape.clone(), t.dtype, t.bytes));
    out += &tensor_table(tensors);
    Ok(out)
}

fn tensor_table<'a>(tensors: impl Iterator<Item = (&'a str, Vec<u64>, GgmlType, u64)>) -> String {
    let mut rows = vec![["tensor", "shape", "type", "bytes"].map(str::to_owned).to_vec()];
    for (name, shape, kind, bytes) in tensors {
        let shape = shape.iter().map(u64::to_string).collect::<Vec<_>>().join(" × ");
        rows.push(vec![crate::sanitize::one_line(name), shape, kind.to_string(), bytes.to_string()]);
    }
    table::render(&[Align::Left, Align::Right, Align::Left, Align::Right], &rows)
}

/// Keys and values of one token over all layers, in f16.
fn kv_bytes_per_token(gguf: &Gguf) -> Option<u64> {
    let number = |key: &str| gguf.u32(key).map(u64::from);
    let (layers, heads) = (number("llama.block_count")?, number("llama.attention.head_count")?);
    let kv_heads = number("llama.attention.head_count_kv").unwrap_or(heads);
    let head_dim =
        number("llama.attention.key_length").or_else(|| number("llama.embedding_length")?.checked_div(heads))?;
    2_u64.checked_mul(layers)?.checked_mul(kv_heads)?.checked_mul(head_dim)?.checked_mul(2)
}

/// Values of one line that fit a terminal.
fn shortened(text: &str) -> String {
    const WIDTH: usize = 100;
    let line = crate::sanitize::one_line(text);
    if line.chars().count() <= WIDTH { line } else { line.chars().take(WIDTH - 1).chain(['…']).collect() }
}

fn to_json(value: &gguf::Value) -> Value {
    use gguf::Value as V;
    match value {
        V::U8(n) => json!(n),
        V::I8(n) => json!(n),
        V::U16(n) => json!(n),
        V::I16(n) => json!(n),
        V::U32(n) => json!(n),
        V::I32(n) => json!(n),
        V::U64(n) => json!(n),
        V::I64(n) => json!(n),
        V::F32(n) => json!(n),
        V::F64(n) => json!(n),
        V::Bool(b) => json!(b),
        V::Str(text) => json!(text),
        V::Array(Array::I32(v)) => json!(v),
        V::Array(Array::F32(v)) => json!(v),
        V::Array(Array::Str(v)) => json!(v),
        V::Array(Array::Other(_, v)) => v.iter().map(to_json).collect(),
    }
}
