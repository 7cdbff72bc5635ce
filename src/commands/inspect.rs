//! `inspect`: prints the contents of a GGUF file, a checkpoint folder, or one weight file of a checkpoint.

mod facts;
mod json;

use super::local_model::{self, LocalModel};
use crate::engine::{EngineSettings, Forecast, ModelDims, N_CTX_MIN, N_SLOTS_MAX, TensorSizes};
use crate::error::{Exit, Failure};
use crate::model::eval_record::EvalRecord;
use crate::sanitize::{one_line, shown};
use crate::table::{self, Align};
use facts::{kv_bytes_per_token, shape, type_name};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::path::Path;
use tulu_quantize::checkpoint::{SourceTensor, open_shard};
use tulu_quantize::gguf::Gguf;
use tulu_quantize::{Checkpoint, GgmlType};

/// Show the metadata, tensors, sizes and memory of a GGUF file, a checkpoint folder or one of its weight files
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tulu-quant inspect tulu-2-13b-Q4_K_M.gguf\n  tulu-quant inspect tulu-2-13b --json\n  \
    tulu-quant inspect tulu-tiny"
)]
pub(crate) struct Args {
    /// A .gguf file, a checkpoint folder, a .safetensors or .bin file, or a model's name (with :TYPE for its GGUF file)
    #[arg(value_name = "MODEL")]
    path: OsString,
    /// Print everything as one JSON object, with whole arrays
    #[arg(long, env = "TULU_QUANT_JSON")]
    json: bool,
    /// Show the memory to run a GGUF file with N tokens of context [default: the training context]
    #[arg(short, long = "ctx", alias = "ctx-size", value_name = "N", env = "TULU_QUANT_CTX_SIZE",
          value_parser = clap::value_parser!(u32).range(i64::from(N_CTX_MIN)..))]
    ctx_size: Option<u32>,
    /// Show the memory to run a GGUF file with N slots, each with a whole context
    #[arg(long, alias = "parallel", value_name = "N", default_value_t = 1, env = "TULU_QUANT_PARALLEL",
          value_parser = clap::value_parser!(u32).range(1..=i64::from(N_SLOTS_MAX)))]
    slots: u32,
}

/// Runs the subcommand.
pub(crate) fn run(args: &Args) -> Result<Exit, Failure> {
    let mut notes = Vec::new();
    let text = match local_model::find(&args.path)? {
        LocalModel::Folder(path) => folder(&path, args.json)?,
        LocalModel::File(path) => match open_shard(&path, &mut notes)? {
            Some((_, tensors)) => shard(&path, &tensors, &notes, args.json),
            None if args.json => {
                let gguf = Gguf::open(&path)?;
                let forecast = forecast(&gguf, args)?;
                return json::print(&gguf, forecast.as_ref());
            }
            None => {
                let gguf = Gguf::open(&path)?;
                let forecast = forecast(&gguf, args)?;
                file(&gguf, args, forecast.as_ref())
            }
        },
    };
    crate::stdout::print(&text)
}

/// Forecasts the memory of a run. `None`: the shape of the model is not known.
fn forecast(gguf: &Gguf, args: &Args) -> Result<Option<Forecast>, Failure> {
    let Ok(Some(dims)) = shape(gguf) else { return Ok(None) };
    let n_ctx = args.ctx_size.unwrap_or(dims.n_ctx_train);
    let settings = EngineSettings { n_ctx: Some(n_ctx), ..EngineSettings::default() };
    Forecast::new(&dims, &TensorSizes::of(gguf, &dims), &settings, args.slots).map(Some)
}

fn file(gguf: &Gguf, args: &Args, forecast: Option<&Forecast>) -> String {
    let mut out = format!(
        "{}: {} {}, {} weights, {} tensors\n",
        shown(&gguf.path),
        table::bytes(gguf.len),
        type_name(gguf),
        table::params(gguf.n_params()),
        gguf.tensors.len()
    );
    let part = gguf.part().map_or_else(Some, |part| part.map(|(n, of)| format!("part {n} of {of} of a split file")));
    out += &part.map_or(String::new(), |part| format!("{part}\n"));
    out += &match shape(gguf) {
        Ok(None) => String::new(),
        Ok(Some(shape)) => memory(&shape, args, forecast),
        Err(why) => format!("memory to run: not known; {}\n", one_line(&why)),
    };
    out += &EvalRecord::of(gguf).map_or(String::new(), |record| format!("evaluated: {}\n", record.line()));
    let mut rows = vec![["key", "type", "value"].map(str::to_owned).to_vec()];
    rows.extend(gguf.pairs.iter().map(|(k, v)| vec![one_line(k), v.type_name(), shortened(&v.to_string())]));
    out += &format!("\n{}\n", table::render(&[Align::Left, Align::Left, Align::Left], &rows));
    let tensors = gguf.tensors.iter().map(|t| (t.name.as_str(), t.dims.clone(), t.ggml_type, t.bytes));
    out + &tensor_table(tensors)
}

/// Returns the lines about the memory of a run: on the CPU, and with the devices of this machine.
fn memory(shape: &ModelDims, args: &Args, forecast: Option<&Forecast>) -> String {
    let all = args.ctx_size.is_none() && args.slots == 1;
    let (n_ctx, slots) = (args.ctx_size.unwrap_or(shape.n_ctx_train), args.slots);
    let cells = u64::from(n_ctx).saturating_mul(slots.into());
    let settings = EngineSettings::default();
    let context = match (all, slots) {
        (true, _) => format!("all {n_ctx} tokens of context"),
        (_, 1) => format!("{n_ctx} tokens of context"),
        _ => format!("{slots} slots of {n_ctx} tokens of context"),
    };
    let mut out = format!(
        "memory to run: {} with {context}: {} of weights, {} of KV cache (f16), and scratch buffers\n",
        table::bytes(shape.memory_needed(&settings, u32::try_from(cells).unwrap_or(u32::MAX))),
        table::bytes(shape.tensor_bytes),
        table::bytes(kv_bytes_per_token(shape).saturating_mul(cells))
    );
    if let Some(forecast) = forecast.filter(|forecast| !forecast.devices.is_empty()) {
        forecast.lines().iter().for_each(|line| out += &format!("  {line}\n"));
        out += &format!("  main memory: {}\n", table::bytes(forecast.main_bytes));
    }
    out
}

/// Counts the parameters of a checkpoint.
fn n_params(tensors: &[SourceTensor]) -> u64 {
    let of = |t: &SourceTensor| match t.shape.contains(&0) {
        true => 0,
        false => t.shape.iter().fold(1, |n: u64, d| n.saturating_mul(*d)),
    };
    tensors.iter().fold(0, |n: u64, t| n.saturating_add(of(t)))
}

fn shard(path: &Path, tensors: &[SourceTensor], notes: &[String], as_json: bool) -> String {
    let n_params = n_params(tensors);
    if as_json {
        let listed: Vec<Value> = tensors.iter().map(tensor_json).collect();
        let all = json!({"path": path.to_string_lossy(), "n_params": n_params, "notes": notes, "tensors": listed});
        return all.to_string() + "\n";
    }
    let mut out = format!("{}: {} weights in {} tensors\n", shown(path), table::params(n_params), tensors.len());
    notes.iter().for_each(|note| out += &format!("note: {}\n", one_line(note)));
    out.push('\n');
    out + &tensor_table(tensors.iter().map(|t| (t.name.as_str(), t.shape.clone(), t.dtype, t.bytes)))
}

fn tensor_json(t: &SourceTensor) -> Value {
    json!({"name": t.name, "shape": t.shape, "type": t.dtype.name(), "shard": t.shard, "offset": t.offset, "bytes": t.bytes})
}

fn folder(path: &Path, as_json: bool) -> Result<String, Failure> {
    let source = Checkpoint::open(path)?;
    let n_params = n_params(&source.tensors);
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
        "{}: {} weights, {} tensors in {}\n{} layers of {}, feed-forward {}, {} heads ({} kv), {} tokens, context {}\n\
         bos {} eos {}, chat template: {}\n",
        shown(path),
        table::params(n_params),
        source.tensors.len(),
        table::count(source.shards.len(), "file", "files"),
        c.num_hidden_layers,
        c.hidden_size,
        c.intermediate_size,
        c.num_attention_heads,
        c.num_key_value_heads,
        c.vocab_size,
        c.max_position_embeddings,
        source.tokenizer.bos.map_or_else(|| "none".to_owned(), |id| id.to_string()),
        source.tokenizer.eos,
        if source.chat_template.is_some() { "yes" } else { "none (Tulu's own will be used)" },
    );
    source.notes.iter().for_each(|note| out += &format!("note: {}\n", one_line(note)));
    out.push('\n');
    let tensors = source.tensors.iter().map(|t| (t.name.as_str(), t.shape.clone(), t.dtype, t.bytes));
    out += &tensor_table(tensors);
    Ok(out)
}

fn tensor_table<'a>(tensors: impl Iterator<Item = (&'a str, Vec<u64>, GgmlType, u64)>) -> String {
    let mut rows = vec![["tensor", "shape", "type", "bytes"].map(str::to_owned).to_vec()];
    for (name, shape, kind, bytes) in tensors {
        let shape = shape.iter().map(u64::to_string).collect::<Vec<_>>().join(" × ");
        rows.push(vec![one_line(name), shape, kind.to_string(), bytes.to_string()]);
    }
    table::render(&[Align::Left, Align::Right, Align::Left, Align::Right], &rows)
}

/// Shortens a value to one line that fits a terminal.
fn shortened(text: &str) -> String {
    const WIDTH: usize = 100;
    let line = one_line(text);
    if line.chars().count() <= WIDTH { line } else { line.chars().take(WIDTH - 1).chain(['…']).collect() }
}
