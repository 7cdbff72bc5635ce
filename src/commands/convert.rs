//! `convert`: a checkpoint, from a folder or as it arrives from the Hub, to one GGUF file for each type, in one pass.

use crate::error::{Code, Exit, Failure};
use crate::interrupt::Interrupt;
use crate::model::bundled;
use crate::model::card;
use crate::model::hub::Hub;
use crate::model::if_exists;
use crate::model::model_ref::{self, ModelRef, parse_type};
use crate::model::resolve::{available_threads, check_is_checkpoint, list_repo};
use crate::model::stopped;
use crate::model::streaming::{self, CheckpointSource};
use crate::options::FetchArgs;
use crate::sanitize::one_line;
use crate::stderr;
use crate::table::{self, Align};
use crate::watch::Watch;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::Instant;
use tulu_quantize::{
    Checkpoint, ConvertOptions, Ftype, GgmlType, Imatrix, Naming, Plan, QuantizeOptions, memory_needed, platform,
};

/// Convert a Hugging Face checkpoint to quantized GGUF files, several types in one pass
///
/// Reads every tensor once and writes all types at once, without an intermediate file; memory does not grow with the
/// model. Weights of a repository on the Hub are converted as they arrive: only the GGUF files take disk, every weight
/// file's sha256 is checked, and a run that was stopped or killed is gone on with by the same command. Types: F32 F16 BF16 Q8_0 Q6_K Q5_K_M Q5_K_S Q5_1 Q5_0 Q4_K_M Q4_K_S Q4_1 Q4_0 IQ4_NL IQ4_XS Q3_K_L Q3_K_M
/// Q3_K_S Q2_K, any case.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tulu-quant convert tulu-2-13b -q Q4_K_M -o .\n  \
    tulu-quant convert tulu-2-13b -q Q4_K_M,Q5_K_M,Q8_0 -o models --dry-run\n  \
    tulu-quant convert tulu-2-7b -q Q5_K_M -o my-{type}.gguf\n  \
    tulu-quant convert tulu-2-dpo-13b -q Q4_K_M,Q8_0 -o models --card")]
pub(crate) struct Args {
    /// Checkpoint folder (config.json, tokenizer.model and safetensors or .bin files), a model of the
    /// Tulu family (`tulu-quant models`) or the Hub (owner/name[@revision]), or a GGUF file of F32, F16 or BF16
    source: PathBuf,
    /// Types to make, separated by commas
    #[arg(
        short,
        long = "quant",
        value_name = "TYPES",
        value_delimiter = ',',
        default_value = "Q4_K_M",
        env = "TULU_QUANT_QUANT"
    )]
    quant: Vec<String>,
    /// A folder (the files are named SOURCE-TYPE.gguf) or a file name; folders that are missing are made. With several
    /// types a file name has {type} in it; {name} stands for the name in GGUF's convention (Tulu-13B-DPO-v2.0)
    #[arg(short, long, value_name = "DIR|FILE", default_value = ".", env = "TULU_QUANT_OUTPUT")]
    output: PathBuf,
    /// Print the plan (tensors, types, sizes) and stop
    #[arg(long, env = "TULU_QUANT_DRY_RUN")]
    dry_run: bool,
    /// Replace files that exist
    #[arg(short, long, env = "TULU_QUANT_FORCE")]
    force: bool,
    /// Write a model card beside the files: README.md with source, licence, prompt format, sizes, memory and checksums
    #[arg(long, env = "TULU_QUANT_CARD")]
    card: bool,
    /// Take a GGUF file that is quantized already, and lose quality twice
    #[arg(long, env = "TULU_QUANT_ALLOW_REQUANTIZE")]
    allow_requantize: bool,
    /// Importance matrix made by llama-imatrix, GGUF or .dat: spend the error where it matters least
    #[arg(long, value_name = "FILE", env = "TULU_QUANT_IMATRIX")]
    imatrix: Option<PathBuf>,
    /// Type of the tensors whose GGUF name the pattern (a regular expression) finds, such as 'attn_v=q6_K'; may be given
    /// several times, and the first that matches decides
    #[arg(long, value_name = "PATTERN=TYPE", env = "TULU_QUANT_TENSOR_TYPE")]
    tensor_type: Vec<String>,
    /// Type of output.weight
    #[arg(long, value_name = "TYPE", env = "TULU_QUANT_OUTPUT_TENSOR_TYPE")]
    output_tensor_type: Option<String>,
    /// Type of token_embd.weight
    #[arg(long, value_name = "TYPE", env = "TULU_QUANT_TOKEN_EMBEDDING_TYPE")]
    token_embedding_type: Option<String>,
    /// Every matrix in the main type, without llama.cpp's mixes
    #[arg(long, env = "TULU_QUANT_PURE")]
    pure: bool,
    /// Quantize with ggml's own kernels: several times slower, the same files
    #[arg(long, env = "TULU_QUANT_REFERENCE_KERNELS")]
    reference_kernels: bool,
    #[command(flatten)]
    fetch: FetchArgs,
    /// Threads, 1 to 1024 [default: every core]
    #[arg(short, long, value_name = "N", env = "TULU_QUANT_THREADS",
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Print the plan and the result as JSON on stdout
    #[arg(long, env = "TULU_QUANT_JSON")]
    json: bool,
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<Exit, Failure> {
    let interrupt = Interrupt::install()?;
    let types = types(&args.quant)?;
    let recipe = recipe(args)?;
    let opened = open(args, &interrupt)?;
    let source = opened.checkpoint();
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
    // the request to stop came as a signal, which decides between 130 and 143
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

/// The folder or file, or else the model of the family or the Hub.
fn open(args: &Args, interrupt: &Interrupt) -> Result<CheckpointSource, Failure> {
    let found = if_exists::metadata(&args.source)?;
    if found.as_ref().is_some_and(|it| !it.is_dir()) {
        return Ok(Checkpoint::open_gguf(&args.source, args.allow_requantize)?.into());
    }
    let named = if found.is_none() { Some(model_ref::parse(args.source.as_os_str())?) } else { None };
    let (repo, ftype) = match named {
        Some(ModelRef::Hub(repo, ftype)) => (repo, ftype),
        Some(ModelRef::Demo(None)) => return Ok(Checkpoint::open(&bundled::folder()?)?.into()),
        Some(ModelRef::Demo(Some(ftype)) | ModelRef::Folder(_, Some(ftype))) => {
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
    // what is in the cache as a whole needs no network
    match hub.settings().cache.complete_snapshot(&repo)?.filter(|_| hub.settings().offline) {
        Some(folder) => Ok(Checkpoint::open(&folder)?.into()),
        None => CheckpointSource::listed(&hub, list_repo(&hub, &repo)?, &args.fetch.options()),
    }
}

/// `chat` takes MODEL:TYPE; here there can be several types.
fn type_after_name(args: &Args, ftype: Ftype) -> Failure {
    let fix = format!("name the types with -q: -q {ftype}");
    Failure::input(Code::Request, "a type after the name is not for convert", fix).at(&args.source)
}

/// The types as typed, without repetitions.
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

/// The options as typed → checked.
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
        imatrix: args.imatrix.as_deref().map(Imatrix::read).transpose()?,
    })
}

fn tensor_type(name: &str) -> Result<GgmlType, Failure> {
    GgmlType::from_str(name).map_err(|err| Failure::input(Code::Type, err.to_string(), "name one of these"))
}

/// The PATTERN=TYPE pairs in `text`: an environment variable holds several. A comma ends a pair only behind a type, for a
/// pattern may have commas (`[0-9]{1,2}`).
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

/// Where each type goes: see the help of `--output`. Names of files keep their bytes, also those that are no UTF-8.
fn paths(output: &Path, source: &Path, name: &str, types: &[Ftype]) -> Result<Vec<(Ftype, PathBuf)>, Failure> {
    let convention = Naming::of(name).map_or_else(|| name.to_owned(), |naming| naming.file_stem());
    let given = platform::replace(output.as_os_str(), "{name}", &convention);
    let output = Path::new(&given);
    let has_type = given.as_encoded_bytes().windows(6).any(|part| part == b"{type}");
    let is_file = !output.is_dir() && (given.as_encoded_bytes().ends_with(b".gguf") || has_type);
    if is_file && types.len() > 1 && !has_type {
        let what = format!("one file cannot hold {} types", types.len());
        return Err(Failure::input(Code::Request, what, "give a folder, or a name with {type} in it").at(output));
    }
    let folder = source.file_name().filter(|own| own.to_string_lossy() == name);
    let stem = folder.unwrap_or(OsStr::new(name));
    let path = |ftype: &Ftype| {
        if is_file {
            return platform::replace(&given, "{type}", ftype.name()).into();
        }
        let mut file = stem.to_owned();
        file.push(format!("-{ftype}.gguf"));
        output.join(file)
    };
    Ok(types.iter().map(|ftype| (*ftype, path(ftype))).collect())
}

/// What will happen, in a few lines.
fn summary(opened: &CheckpointSource, plan: &Plan, memory: u64) -> String {
    let source = opened.checkpoint();
    let c = &source.config;
    let mut out = format!(
        "{}: {} weights in {} tensors, {} layers of {} with {} heads ({} kv), {} tokens, context {}\n",
        source.name(),
        table::params(plan.n_params),
        plan.tensors.len(),
        c.num_hidden_layers,
        c.hidden_size,
        c.num_attention_heads,
        c.num_key_value_heads,
        c.vocab_size,
        c.max_position_embeddings,
    );
    for o in &plan.outputs {
        #[allow(clippy::cast_precision_loss, reason = "two digits are shown")]
        let bpw = o.sizes.iter().sum::<u64>() as f64 * 8.0 / plan.n_params as f64;
        out += &format!("  {:<7} {:>9}  {bpw:.2} bits a weight  {}\n", o.ftype, table::bytes(o.len), o.path.display());
    }
    let [read, disk, memory] = [plan.source_bytes, plan.output_bytes(), memory].map(table::bytes);
    let reads = match opened.remote_name() {
        Some(place) => format!("fetches {read} from {place} and keeps none of it"),
        None => format!("reads {read}"),
    };
    out += &format!("  {reads}, needs {disk} of disk and about {memory} of memory\n");
    if let [first, ..] = plan.skipped.as_slice() {
        out +=
            &format!("  leaves out {} tensors that no loader reads, such as {}\n", plan.skipped.len(), one_line(first));
    }
    for note in source.notes.iter().chain(&plan.notes) {
        out += &format!("tulu-quant: note: {}\n", one_line(note));
    }
    out
}

/// One line for each tensor: what it is and what it becomes.
fn tensor_table(source: &Checkpoint, plan: &Plan) -> String {
    let mut heading = vec!["tensor".to_owned(), "shape".to_owned(), "source".to_owned()];
    let mut align = vec![Align::Left, Align::Right, Align::Left];
    for o in &plan.outputs {
        heading.extend([o.ftype.to_string(), "bytes".to_owned()]);
        align.extend([Align::Left, Align::Right]);
    }
    let mut rows = vec![heading];
    for (i, t) in plan.tensors.iter().enumerate() {
        let shape = t.dims.iter().rev().map(u64::to_string).collect::<Vec<_>>().join(" × ");
        let mut row = vec![t.name.clone(), shape, source.tensors[t.source].dtype.to_string()];
        plan.outputs.iter().for_each(|o| row.extend([o.types[i].to_string(), o.sizes[i].to_string()]));
        rows.push(row);
    }
    let mut total = vec!["total (with header)".to_owned(), String::new(), table::bytes(plan.source_bytes)];
    plan.outputs.iter().for_each(|o| total.extend([String::new(), o.len.to_string()]));
    rows.push(total);
    table::render(&align, &rows)
}

fn plan_json(opened: &CheckpointSource, plan: &Plan, memory: u64) -> Value {
    let source = opened.checkpoint();
    let place = opened.remote_name().unwrap_or_else(|| source.dir.to_string_lossy().into_owned());
    let outputs: Vec<Value> = plan
        .outputs
        .iter()
        .map(|o| {
            let tensors: Vec<Value> = plan
                .tensors
                .iter()
                .enumerate()
                .map(|(i, t)| {
                    let shape: Vec<u64> = t.dims.iter().rev().copied().collect();
                    json!({"name": t.name, "shape": shape, "source_type": source.tensors[t.source].dtype.name(),
                           "type": o.types[i].name(), "bytes": o.sizes[i], "offset": o.offsets[i]})
                })
                .collect();
            json!({"type": o.ftype.name(), "path": o.path.to_string_lossy(), "bytes": o.len, "tensors": tensors})
        })
        .collect();
    let notes: Vec<&String> = source.notes.iter().chain(&plan.notes).collect();
    json!({"source": place, "n_params": plan.n_params, "read_bytes": plan.source_bytes,
           "disk_bytes": plan.output_bytes(), "memory_bytes": memory, "skipped": plan.skipped, "notes": notes, "outputs": outputs})
}
