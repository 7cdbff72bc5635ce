//! `convert`: converts a checkpoint from a folder or from the Hub to one GGUF file per type, in one pass. The
//! conversion itself is in the `tulu_quantize` library.

mod output_paths;
mod plan_report;

use super::compute_imatrix::automatic;
use crate::error::{Code, Exit, Failure};
use crate::interrupt::Interrupt;
use crate::model::FetchOptions;
use crate::model::card;
use crate::model::hub::Hub;
use crate::model::if_exists;
use crate::model::model_ref::{self, ModelRef, parse_type};
use crate::model::resolve::{available_threads, check_is_checkpoint, list_repo, ready_file};
use crate::model::stopped;
use crate::model::streaming::{self, CheckpointSource};
use crate::options::{FetchArgs, byte_size};
use crate::stderr;
use crate::table;
use crate::watch::Watch;
use output_paths::paths;
use plan_report::{plan_json, summary, tensor_table};
use serde_json::json;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
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
    tulu-quant convert tulu-2-dpo-13b -q Q4_K_M,Q8_0 -o models --card")]
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
    let types = types(&args.quant)?;
    let mut recipe = recipe(args)?;
    let opened = open(args, &interrupt)?;
    let source = opened.checkpoint();
    if args.imatrix.as_deref().is_some_and(is_auto) {
        recipe.imatrix = Some(automatic_imatrix(args, source, &interrupt)?);
    }
    let refusals = crate::prompt::check_template(source)?;
    let plan = Plan::new(source, &paths(&args.output, &args.source, &source.name(), &types)?, &recipe)?;
    let threads = args.threads.and_then(|n| NonZeroUsize::new(n.into())).unwrap_or_else(available_threads);
    let memory = memory_needed(&plan, threads).saturating_add(opened.stream_memory(&plan));
    if !args.json {
        stderr::block(&summary(&opened, &plan, memory));
        refusals.iter().for_each(|note| stderr::note(note));
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
    let watch = Watch::new("converting", plan.source_bytes, &interrupt);
    let options = ConvertOptions { threads, replace: args.force, reference_kernels: args.reference_kernels };
    let journal = streaming::journal_of(&source.name(), &plan);
    let converted = opened.convert(&plan, options, &journal, &watch);
    watch.clear();
    // which signal was received decides between exit codes 130 and 143
    let report = converted.map_err(|err| match interrupt.asked() {
        Some(exit) if err.code == Code::Interrupted && opened.remote_name().is_some() => stopped(exit),
        asked => Failure { exit: asked.unwrap_or(err.exit), ..err },
    })?;
    if let Some(card) = &card {
        card::write(card, source, &plan, &interrupt)?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    if args.json {
        let mut result = plan_json(&opened, &plan, memory);
        result["seconds"] = json!(seconds);
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

/// Opens the source: an existing folder or file, or else a model of the family or the Hub.
fn open(args: &Args, interrupt: &Interrupt) -> Result<CheckpointSource, Failure> {
    let found = if_exists::metadata(&args.source)?;
    if found.as_ref().is_some_and(|it| !it.is_dir()) {
        return Ok(Checkpoint::open_gguf(&args.source, args.allow_requantize)?.into());
    }
    let named = if found.is_none() { Some(model_ref::parse(args.source.as_os_str())?) } else { None };
    let (repo, ftype) = match named {
        Some(ModelRef::Hub(repo, ftype)) => (repo, ftype),
        Some(ModelRef::HubGguf(repo, wanted)) => {
            let file = ready_file(&repo, &wanted, &args.fetch.options(), interrupt)?;
            return Ok(Checkpoint::open_gguf(&file, args.allow_requantize)?.into());
        }
        Some(ModelRef::Bundled(bundle, None)) => return Ok(Checkpoint::open(&bundle.folder()?)?.into()),
        Some(ModelRef::Bundled(_, Some(ftype)) | ModelRef::Folder(_, Some(ftype))) => {
            return Err(type_after_name(args, ftype));
        }
        _ => {
            check_is_checkpoint(&args.source)?;
            return Ok(Checkpoint::open(&args.source)?.into());
        }
    };
    if let Some(ftype) = ftype {
        return Err(type_after_name(args, ftype));
    }
    let hub = Hub::from_env(interrupt)?;
    // a complete checkpoint in the cache needs no network
    match hub.settings().cache.complete_snapshot(&repo)?.filter(|_| hub.settings().offline) {
        Some(folder) => Ok(Checkpoint::open(&folder)?.into()),
        None => CheckpointSource::listed(&hub, list_repo(&hub, &repo)?, &args.fetch.options()),
    }
}

/// Creates the error for MODEL:TYPE. `chat` accepts it; here the types are given with -q.
fn type_after_name(args: &Args, ftype: Ftype) -> Failure {
    let fix = format!("name the types with -q: -q {ftype}");
    Failure::input(Code::Request, "convert does not accept NAME:TYPE", fix).at(&args.source)
}

/// Parses the types and drops repetitions.
fn types(names: &[String]) -> Result<Vec<Ftype>, Failure> {
    let mut types = Vec::new();
    for name in names.iter().map(|n| n.trim()).filter(|n| !n.is_empty()) {
        let ftype = parse_type(name)?;
        if !types.contains(&ftype) {
            types.push(ftype);
        }
    }
    Ok(types)
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
        imatrix: args.imatrix.as_deref().filter(|file| !is_auto(file)).map(Imatrix::read).transpose()?,
        split_max_bytes: args.split_max_size,
    })
}

fn is_auto(imatrix: &Path) -> bool {
    imatrix == Path::new("auto")
}

/// Weights above which the importance matrix is computed with a Q8_0 file.
const WEIGHTS_MAX_BF16: u64 = 2_000_000_000;

fn automatic_imatrix(args: &Args, source: &Checkpoint, interrupt: &Interrupt) -> Result<Imatrix, Failure> {
    let weights = source.tensors.iter().map(|tensor| tensor.shape.iter().product::<u64>()).sum::<u64>();
    let ftype = if weights > WEIGHTS_MAX_BF16 { Ftype::Q8_0 } else { Ftype::BF16 };
    let fetch = FetchOptions { yes: true, ..args.fetch.options() };
    automatic(args.source.as_os_str(), ftype, args.threads.map(u32::from), &fetch, interrupt)
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
