//! `convert`: converts a checkpoint from a folder or from the Hub to one GGUF file per type, in one pass. The
//! conversion itself is in the `tulu_quantize` library.

mod evaluation;
mod output_paths;
mod plan_report;

use super::compute_imatrix;
use super::conversion::{self, Wanted};
use crate::error::{Code, Exit, Failure};
use crate::interrupt::Interrupt;
use crate::model::FetchOptions;
use crate::model::card;
use crate::model::eval_record::EvalRecord;
use crate::model::resolve::available_threads;
use crate::options::{FetchArgs, byte_size};
use crate::stderr;
use crate::table;
use evaluation::Evaluation;
use output_paths::paths;
use plan_report::{plan_json, summary, tensor_table};
use serde_json::json;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr as _;
use std::time::Instant;
use tulu_quantize::{Checkpoint, ConvertOptions, Ftype, GgmlType, Imatrix, Plan, QuantizeOptions, memory_needed};

/// Convert a Hugging Face checkpoint to quantized GGUF files, several types in one pass
///
/// Reads every tensor once and writes all types at once, without an intermediate file; memory use does not grow with the
/// model. Weights on the Hub are converted while they are downloaded: only the GGUF files take disk space, and the sha256
/// of every weight file is checked. To resume after an interruption, run the same command again. Types: F32 F16 BF16 Q8_0
/// Q6_K Q5_K_M Q5_K_S Q5_1 Q5_0 Q4_K_M Q4_K_S Q4_1 Q4_0 IQ4_NL IQ4_XS Q3_K_L Q3_K_M Q3_K_S Q2_K, in any case.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tulu-quant convert tulu-2-13b -q Q4_K_M -o .\n  \
    tulu-quant convert tulu-2-13b -q Q4_K_M,Q5_K_M,Q8_0 -o models --dry-run\n  \
    tulu-quant convert tulu-2-7b -q Q5_K_M -o my-{type}.gguf\n  \
    tulu-quant convert tulu-2-dpo-13b -q Q4_K_M,Q8_0 -o models --card\n  \
    tulu-quant convert tulu-2-7b -q Q4_K_M,Q8_0 -o models --card --eval --record")]
pub(crate) struct Args {
    /// Checkpoint folder (config.json, tokenizer.model or tokenizer.json, safetensors or .bin files), a model of the
    /// Tulu family (`tulu-quant models`) or the Hub (owner/name[@revision]), or a GGUF file of F32, F16 or BF16 (any part of
    /// a split one)
    source: PathBuf,
    /// Make these types, separated by commas
    #[arg(
        short,
        long = "quant",
        value_name = "TYPES",
        value_delimiter = ',',
        default_value = "Q4_K_M",
        env = "TULU_QUANT_QUANT"
    )]
    quant: Vec<String>,
    /// Write to this folder (created if missing; files are named SOURCE-TYPE.gguf) or file name. With several types the
    /// name must contain {type}; {name} becomes the model's name in GGUF's convention (Tulu-13B-DPO-v2.0)
    #[arg(short, long, value_name = "DIR|FILE", default_value = ".", env = "TULU_QUANT_OUTPUT")]
    output: PathBuf,
    /// Print the plan (tensors, types, sizes) and exit
    #[arg(long, env = "TULU_QUANT_DRY_RUN")]
    dry_run: bool,
    /// Replace existing files
    #[arg(short, long, env = "TULU_QUANT_FORCE")]
    force: bool,
    /// Write a model card next to the files: README.md with source, licence, prompt format, sizes, memory and checksums
    #[arg(long, env = "TULU_QUANT_CARD")]
    card: bool,
    /// Evaluate the files on a text, as `eval` does, and put perplexity and KL divergence from the source into the model card
    #[arg(long, env = "TULU_QUANT_EVAL")]
    eval: bool,
    /// With --eval: store the results in the files, too, in the keys `tulu_quant.eval.*`
    #[arg(long, requires = "eval", env = "TULU_QUANT_RECORD")]
    record: bool,
    /// With --eval: use this text instead of the one that the program carries
    #[arg(long, value_name = "TEXT", requires = "eval", env = "TULU_QUANT_EVAL_TEXT")]
    eval_text: Option<PathBuf>,
    /// With --eval: compute only the first N chunks of 512 tokens
    #[arg(long, value_name = "N", requires = "eval", env = "TULU_QUANT_EVAL_CHUNKS",
          value_parser = clap::value_parser!(u32).range(1..))]
    eval_chunks: Option<u32>,
    /// Allow a source that is already quantized (quality is lost a second time)
    #[arg(long, env = "TULU_QUANT_ALLOW_REQUANTIZE")]
    allow_requantize: bool,
    /// Use this importance matrix, made by `imatrix` or llama-imatrix (GGUF or .dat); auto: make one first, with a text that
    /// the program carries and a BF16 file (Q8_0 above 2 billion weights) of the source, both kept in the cache
    #[arg(long, value_name = "FILE|auto", env = "TULU_QUANT_IMATRIX")]
    imatrix: Option<PathBuf>,
    /// Set the type of tensors whose GGUF name matches a regular expression, such as attn_v=q6_K; repeatable, the first
    /// match wins
    #[arg(long, value_name = "PATTERN=TYPE", env = "TULU_QUANT_TENSOR_TYPE")]
    tensor_type: Vec<String>,
    /// Set the type of output.weight
    #[arg(long, value_name = "TYPE", env = "TULU_QUANT_OUTPUT_TENSOR_TYPE")]
    output_tensor_type: Option<String>,
    /// Set the type of token_embd.weight
    #[arg(long, value_name = "TYPE", env = "TULU_QUANT_TOKEN_EMBEDDING_TYPE")]
    token_embedding_type: Option<String>,
    /// Store every matrix in the base type, without llama.cpp's mixes
    #[arg(long, env = "TULU_QUANT_PURE")]
    pure: bool,
    /// Split files whose tensors have more than N bytes together into parts, named as llama-gguf-split does
    /// (NAME-00001-of-00003.gguf). llama.cpp loads them by the first part
    #[arg(long, value_name = "N(M|G)", env = "TULU_QUANT_SPLIT_MAX_SIZE", value_parser = byte_size)]
    split_max_size: Option<u64>,
    /// Quantize with ggml's own kernels: several times slower, same files
    #[arg(long, env = "TULU_QUANT_REFERENCE_KERNELS")]
    reference_kernels: bool,
    /// Run on N threads, 1 to 1024 [default: every core]
    #[arg(short, long, value_name = "N", env = "TULU_QUANT_THREADS",
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Print the plan and the result as JSON on stdout
    #[arg(long, env = "TULU_QUANT_JSON")]
    json: bool,
    // Last, because its heading holds for the options that follow.
    #[command(flatten)]
    fetch: FetchArgs,
}

/// Runs the subcommand.
pub(crate) fn run(args: &Args) -> Result<Exit, Failure> {
    let interrupt = Interrupt::install()?;
    let types = conversion::types(&args.quant)?;
    let mut recipe = recipe(args)?;
    let wanted = Wanted {
        source: &args.source,
        allow_requantize: args.allow_requantize,
        fetch: &args.fetch.options(),
        command: "convert",
        flag: "-q",
    };
    let opened = conversion::open(&wanted, &interrupt)?;
    let source = opened.checkpoint();
    if args.imatrix.as_deref().is_some_and(compute_imatrix::is_auto) {
        let fetch = FetchOptions { yes: true, ..args.fetch.options() };
        let threads = args.threads.map(u32::from);
        recipe.imatrix =
            Some(compute_imatrix::automatic(source, args.source.as_os_str(), threads, &fetch, &interrupt)?);
    }
    let refusals = crate::prompt::check_template(source)?;
    let mut outputs = paths(&args.output, &args.source, &source.name(), &types)?;
    let mut evaluation = evaluation(args, source, &mut outputs)?;
    if let Some(evaluation) = &evaluation {
        evaluation.keep_base(&outputs, &mut recipe);
    }
    let mut plan = Plan::new(source, &outputs, &recipe)?;
    let threads = args.threads.and_then(|n| NonZeroUsize::new(n.into())).unwrap_or_else(available_threads);
    let memory = memory_needed(&plan, threads).saturating_add(opened.stream_memory(&plan));
    if !args.json {
        stderr::block(&summary(&opened, &plan, memory));
        let base = evaluation.as_ref().and_then(Evaluation::note);
        refusals.iter().chain(&base).for_each(|note| stderr::note(note));
    }
    if args.dry_run {
        let text =
            if args.json { plan_json(&opened, &plan, memory).to_string() + "\n" } else { tensor_table(source, &plan) };
        return crate::stdout::print(&text);
    }
    for folder in plan.outputs.iter().filter_map(|o| o.path.parent()).filter(|dir| !dir.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|err| Failure::io(folder, "cannot create the folder", &err))?;
    }
    let card = args.card.then(|| card::place(&plan, args.force)).transpose()?;
    let begun = Instant::now();
    let options = ConvertOptions { threads, replace: args.force, reference_kernels: args.reference_kernels };
    let report = conversion::run(&opened, &plan, options, &interrupt)?;
    let seconds = begun.elapsed().as_secs_f64();
    let results = match &mut evaluation {
        Some(evaluation) => evaluation.run(&mut plan, args.record, &interrupt)?,
        None => Vec::new(),
    };
    if let Some(card) = &card {
        card::write(card, source, &plan, &results, &interrupt)?;
    }
    if args.json {
        let mut result = plan_json(&opened, &plan, memory);
        result["seconds"] = json!(seconds);
        if evaluation.is_some() {
            let of = |(ftype, result): &(Ftype, EvalRecord)| (ftype.name().to_owned(), result.json());
            result["eval"] = results.iter().map(of).collect::<serde_json::Map<_, _>>().into();
        }
        return crate::stdout::print(&(result.to_string() + "\n"));
    }
    let mut made: Vec<String> =
        plan.outputs.iter().map(|o| format!("  {}  {}\n", o.path.display(), table::bytes(o.len))).collect();
    made.extend(card.map(|card| format!("  {}\n", card.display())));
    stderr::block(&format!(
        "Done in {seconds:.1} s: read {}, wrote {}\n{}",
        table::bytes(report.read),
        table::bytes(report.written),
        made.concat()
    ));
    Ok(Exit::Done)
}

/// Returns the evaluation of the outputs, if it is wanted. Its base may be one more output.
fn evaluation(
    args: &Args,
    source: &Checkpoint,
    outputs: &mut Vec<(Ftype, PathBuf)>,
) -> Result<Option<Evaluation>, Failure> {
    let threads = args.threads.map(u32::from);
    let new = || Evaluation::new(source, outputs, args.eval_text.as_deref(), args.eval_chunks, threads);
    args.eval.then(new).transpose()
}

/// Validates the quantization options.
fn recipe(args: &Args) -> Result<QuantizeOptions, Failure> {
    let of = |name: &String| tensor_type(name);
    let overrides = args.tensor_type.iter().flat_map(|text| overrides(text)).map(|text| match text.rsplit_once('=') {
        Some((pattern, kind)) if !pattern.is_empty() => Ok((pattern.to_lowercase(), tensor_type(kind)?)),
        _ => Err(Failure::input(Code::Type, format!("'{text}' is not PATTERN=TYPE"), "write it like attn_v=q6_K")),
    });
    Ok(QuantizeOptions {
        pure: args.pure,
        output: args.output_tensor_type.as_ref().map(of).transpose()?,
        token_embedding: args.token_embedding_type.as_ref().map(of).transpose()?,
        overrides: overrides.collect::<Result<_, _>>()?,
        imatrix: args
            .imatrix
            .as_deref()
            .filter(|file| !compute_imatrix::is_auto(file))
            .map(Imatrix::read)
            .transpose()?,
        split_max_bytes: args.split_max_size,
    })
}

fn tensor_type(name: &str) -> Result<GgmlType, Failure> {
    GgmlType::from_str(name).map_err(|err| Failure::input(Code::Type, err.to_string(), "name one of these"))
}

/// Splits `text` into PATTERN=TYPE pairs, because an environment variable holds several. A comma ends a pair only after
/// a type, because patterns may contain commas (`[0-9]{1,2}`).
fn overrides(text: &str) -> Vec<&str> {
    let (mut all, mut begin) = (Vec::new(), 0);
    for (at, _) in text.match_indices(',') {
        let kind = text[begin..at].rsplit_once('=').map(|(_, kind)| GgmlType::from_str(kind));
        if kind.is_some_and(|kind| kind.is_ok()) {
            all.push(&text[begin..at]);
            begin = at + 1;
        }
    }
    all.push(&text[begin..]);
    all
}
