//! `tulu-quant bench`: measures the speed of a model, and prints it like llama-bench. The measurement is in `bench/`.

use super::{devices, load_model};
use crate::bench::{self, AnswerPlan, Subject, Test};
use crate::decode::Drafts;
use crate::engine::{Context, EngineSettings, Model, N_BATCH, N_CTX_MIN, N_SLOTS_MAX, N_UBATCH, OnDevice, Token};
use crate::error::{Code, Exit, Failure};
use crate::interrupt::Interrupt;
use crate::options::{DraftArgs, EngineArgs, HubArgs};
use crate::progress::Bar;
use crate::prompt::{Message, Prompts, Role};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::path::Path;
use tulu_quantize::Ftype;
use tulu_quantize::gguf::Gguf;

/// Tokens of the prompt in a measurement with forced acceptance.
const PROMPT_OF_FORCED: u32 = 64;

/// Measure the speed of prompt processing (pp) and generation (tg)
///
/// The method is that of llama-bench, so the numbers can be compared: random tokens, a warm-up run, then -r runs. With
/// -npl, several sequences generate at the same time, as in batch; the speed is that of all sequences together. The table also
/// shows two limits, both measured first: the fraction of the memory bandwidth, which limits few sequences, and the fraction
/// of the multiply-adds that the CPU can execute, which limits prompts and many sequences.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tulu-quant bench tulu-2-13b-Q4_K_M.gguf\n  \
    tulu-quant bench tulu-2-13b-Q4_K_M.gguf -p 512 -n 128 -t 8 --json\n  \
    tulu-quant bench tulu-2-13b-Q4_K_M.gguf -p 0 -npl 1,4,8,16,32\n  \
    tulu-quant bench tulu-2-13b-Q4_K_M.gguf -p article.txt -md tulu-2-7b-Q4_K_M.gguf")]
pub(crate) struct Args {
    /// Short name, Hub id, checkpoint folder or .gguf file [default: the bundled demonstration model]
    #[arg(env = "TULU_QUANT_MODEL")]
    model: Option<OsString>,
    /// Prompt lengths, separated by commas; 0: none. Or files: measures the answers to their text, with and without drafts
    /// [default: 512]
    #[arg(short = 'p', long, value_name = "N|FILE", value_delimiter = ',', env = "TULU_QUANT_N_PROMPT")]
    n_prompt: Vec<String>,
    /// Tokens to generate, separated by commas; 0: none
    #[arg(short = 'n', long, value_name = "N", value_delimiter = ',', default_value = "128", env = "TULU_QUANT_N_GEN")]
    n_gen: Vec<u32>,
    /// Measure generation without drafts, and with drafts that are right with these probabilities, separated by commas. Shows
    /// what drafts can gain on this machine
    #[arg(long, value_name = "P", value_delimiter = ',', env = "TULU_QUANT_ACCEPTANCE", value_parser = probability)]
    acceptance: Vec<f64>,
    /// Numbers of sequences that generate at the same time, separated by commas (-npl); the weights are loaded once, as for
    /// the largest (see --repack)
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1", env = "TULU_QUANT_PARALLEL_LIST",
          value_parser = clap::value_parser!(u32).range(1..=i64::from(N_SLOTS_MAX)))]
    parallel_list: Vec<u32>,
    /// Repetitions of each test
    #[arg(short, long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10_000),
          env = "TULU_QUANT_REPETITIONS")]
    repetitions: u32,
    /// Print a JSON array of objects with llama-bench's field names
    #[arg(long, env = "TULU_QUANT_JSON")]
    json: bool,
    #[command(flatten)]
    hub: HubArgs,
    #[command(flatten)]
    drafts: DraftArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<Exit, Failure> {
    if args.engine.list_devices {
        return devices::list(args.model.as_deref(), &args.engine.settings()?, 1);
    }
    let files = files(args)?;
    let tests = tests(args, &files);
    if tests.is_empty() && files.is_empty() && args.acceptance.is_empty() {
        let what = "there is nothing to measure";
        return Err(Failure::input(Code::Usage, what, "give -p or -n a number above 0"));
    }
    let settings = args.engine.settings()?;
    let answers = if files.is_empty() && args.acceptance.is_empty() { 0 } else { N_CTX_MIN };
    let longest = tests.iter().map(|test| test.n_prompt.saturating_add(test.n_gen)).max().unwrap_or(0);
    let longest = longest.max(args.n_gen.iter().max().map_or(0, |n| n.saturating_add(answers)));
    // The context has the size that the longest test needs, as in llama-bench; with a file, the whole one.
    let n_ctx = settings.n_ctx.unwrap_or(N_CTX_MIN).max(longest);
    let n_slots = tests.iter().map(|test| test.n_parallel).max().unwrap_or(1);
    let n_cells = tests.iter().map(|test| test.n_tokens()).max().unwrap_or(0);
    let n_cells = u32::try_from(n_cells).unwrap_or(u32::MAX).max(n_ctx);
    let (n_ctx, n_cells) = if files.is_empty() { (Some(n_ctx), Some(n_cells)) } else { (settings.n_ctx, None) };
    let settings = EngineSettings { n_ctx, n_cells, ..settings }.check()?;
    let interrupt = Interrupt::install()?;
    let path = load_model::resolve(args.model.as_deref(), &settings, &args.hub, &interrupt)?;
    let (second, settings) = load_model::resolve_second(&args.drafts, settings, &args.hub, &interrupt)?;
    let model = load_model::model(&path, settings, Some(n_slots), &interrupt)?;
    let second = second.map(|path| load_model::second(&path, &model, &interrupt)).transpose()?;
    let subject = subject(&model)?;

    let mut all = Vec::new();
    if !args.json {
        crate::stdout::print(&bench::table_head())?;
    }
    let mut add = |measured: bench::Measured| {
        let row = if args.json { String::new() } else { bench::table_row(&subject, &measured) };
        all.push(measured);
        crate::stdout::print(&row).map(drop)
    };
    if !tests.is_empty() {
        let mut context = model.context(&interrupt)?;
        for test in tests {
            let Some(measured) = measure(&mut context, &model, test, args.repetitions, &interrupt)? else {
                return Ok(interrupt.asked().unwrap_or(Exit::Interrupted));
            };
            add(measured)?;
        }
    }
    for plan in answer_plans(args, &files, &model, second.as_ref())? {
        let bar = Bar::items("measuring", "runs", u64::from(args.repetitions) + 1);
        let progress = |done| bar.set(u64::from(done));
        let Some(measured) = bench::measure_answer(&model, plan, args.repetitions, progress, &interrupt)? else {
            return Ok(interrupt.asked().unwrap_or(Exit::Interrupted));
        };
        drop(bar);
        add(measured)?;
    }
    if args.json { crate::stdout::print(&format!("{:#}\n", bench::json(&subject, &all))) } else { Ok(Exit::Done) }
}

/// Returns the prompts of files: their names and texts.
fn files(args: &Args) -> Result<Vec<(String, String)>, Failure> {
    let mut files = Vec::new();
    for name in args.n_prompt.iter().filter(|text| text.parse::<u32>().is_err()) {
        let file = Path::new(name);
        let bytes = std::fs::read(file).map_err(|err| Failure::io(file, "cannot read the prompt", &err))?;
        let text = String::from_utf8(bytes)
            .map_err(|_| Failure::input(Code::Prompt, "is not UTF-8 text", "convert it to UTF-8").at(file))?;
        let stem = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.push((crate::sanitize::one_line(&stem), text));
    }
    Ok(files)
}

/// Returns the answers to measure: to each file, without and with drafts; then a given answer, without drafts and with each
/// forced acceptance.
fn answer_plans<'m>(
    args: &Args,
    files: &[(String, String)],
    model: &Model,
    second: Option<&'m Model>,
) -> Result<Vec<AnswerPlan<'m>>, Failure> {
    let mut plans = Vec::new();
    let template = model.chat_template();
    for (name, text) in files {
        let prompts = Prompts::new(model.vocab(), template.as_deref()).map_err(|failure| failure.at(model.path()))?;
        let prompt = prompts.render(&[Message::new(Role::User, text.as_str())], true)?.ids;
        for n_gen in args.n_gen.iter().copied().filter(|n| *n > 1) {
            let plan = |drafts, label| AnswerPlan { prompt: prompt.clone(), n_gen, drafts, label };
            plans.push(plan(Drafts::off(), name.clone()));
            if !args.drafts.no_draft {
                plans.push(plan(args.drafts.drafts(second), format!("{name} drafts")));
            }
        }
    }
    let prompt = bench::random_tokens(model, PROMPT_OF_FORCED);
    // Each rate is compared with the same answer without drafts.
    let without = args.acceptance.first().map(|_| (0.0, Some(0), "no drafts".to_owned()));
    let with = args.acceptance.iter().map(|rate| (*rate, args.drafts.draft_n.map(usize::from), format!("@ {rate}")));
    for (rate, n_tokens, label) in without.into_iter().chain(with) {
        for n_gen in args.n_gen.iter().copied().filter(|n| *n > 1) {
            let drafts = Drafts { n_tokens, ..bench::forced(model, rate, n_gen) };
            plans.push(AnswerPlan { prompt: prompt.clone(), n_gen, drafts, label: label.clone() });
        }
    }
    Ok(plans)
}

/// Parses a probability.
fn probability(text: &str) -> Result<f64, String> {
    let rate = text.trim().parse::<f64>().ok().filter(|rate| (0.0..=1.0).contains(rate));
    rate.ok_or_else(|| "is not a number from 0 to 1".to_owned())
}

fn measure(
    context: &mut Context<'_>,
    model: &Model,
    test: Test,
    repetitions: u32,
    interrupt: &Interrupt,
) -> Result<Option<bench::Measured>, Failure> {
    let bar = Bar::items("measuring", "runs", u64::from(repetitions) + 1);
    bench::measure(
        context,
        model.vocab().bos().unwrap_or(Token::new(0)),
        test,
        repetitions,
        |done| bar.set(u64::from(done)),
        interrupt,
    )
}

/// Returns the tests with random tokens. A file or --acceptance replaces those that the user did not ask for.
fn tests(args: &Args, files: &[(String, String)]) -> Vec<Test> {
    let mut prompts: Vec<u32> = args.n_prompt.iter().filter_map(|text| text.parse().ok()).collect();
    if args.n_prompt.is_empty() && args.acceptance.is_empty() {
        prompts.push(512);
    }
    let prompts = prompts.into_iter().map(|n| Test { n_prompt: n, n_gen: 0, n_parallel: 1 });
    let generations = args.n_gen.iter().filter(|_| files.is_empty()).flat_map(|n| {
        args.parallel_list.iter().map(|n_parallel| Test { n_prompt: 0, n_gen: *n, n_parallel: *n_parallel })
    });
    prompts.chain(generations).filter(|test| test.n_prompt > 0 || test.n_gen > 0).collect()
}

/// Returns the backends of the devices with layers; `CPU` without any.
fn backends(model: &Model) -> String {
    let mut names: Vec<&str> = model.on_devices().iter().map(|part| part.device.backend.as_str()).collect();
    names.dedup();
    if names.is_empty() { "CPU".to_owned() } else { names.join(",") }
}

/// Returns the part of a model on a device: its layers, and the bytes that were planned and that it and one context use.
fn on_device(part: &OnDevice<'_>) -> Value {
    json!({"name": part.device.name, "hardware": part.device.description, "layers": part.n_layers,
           "planned_bytes": part.planned, "weights_bytes": part.used.weights, "kv_bytes": part.used.cache,
           "compute_bytes": part.used.compute})
}

fn subject(model: &Model) -> Result<Subject, Failure> {
    let settings = model.settings();
    let gguf = Gguf::open(model.path())?;
    let bytes = |name: &str| gguf.tensors.iter().find(|tensor| tensor.name == name).map(|tensor| tensor.bytes);
    // Generation reads only one row of the embedding, unless it is the output matrix too.
    let unread = bytes("output.weight").and(bytes("token_embd.weight")).unwrap_or(0);
    let output = if bytes("output.weight").is_some() { "output.weight" } else { "token_embd.weight" };
    let matrices = gguf.tensors.iter().filter(|tensor| tensor.dims.len() > 1);
    let products = |wanted: &dyn Fn(&str) -> bool| {
        matrices.clone().filter(|tensor| wanted(&tensor.name)).map(|tensor| tensor.dims.iter().product::<u64>()).sum()
    };
    let ftype = gguf.u32("general.file_type").and_then(Ftype::from_id).map_or("", Ftype::name);
    let size = gguf.str("general.size_label").unwrap_or("");
    Ok(Subject {
        filename: model.path().display().to_string(),
        model_type: ["llama", size, ftype]
            .iter()
            .filter(|part| !part.is_empty())
            .copied()
            .collect::<Vec<_>>()
            .join(" "),
        size: model.dims().tensor_bytes,
        n_params: model.n_params(),
        backends: backends(model),
        n_batch: N_BATCH,
        n_ubatch: N_UBATCH,
        n_threads: model.n_threads(),
        type_k: settings.type_k.name(),
        type_v: settings.type_v.name(),
        n_gpu_layers: model.n_gpu_layers(),
        devices: model.on_devices().iter().map(on_device).collect(),
        flash_attn: settings.flash_attn.name(),
        bytes_per_token: model.dims().tensor_bytes - unread,
        // Of main memory: weights on a GPU are not read from there.
        bandwidth: if model.n_gpu_layers() > 0 { None } else { bench::read_bandwidth(model.n_threads() as usize) },
        products_of_layers: products(&|name| name.starts_with("blk.")),
        products_of_output: products(&|name| name == output),
        peak: if model.n_gpu_layers() > 0 { None } else { llama_ext::peak::peak(model.n_threads() as usize) },
    })
}
