//! `eval`: perplexity of several files, and their distance from a base, in one table. The computation is in `eval/`, the
//! texts are in `corpus/`.

use super::load_model;
use crate::bench::{self, Test};
use crate::corpus::{self, Chunk, Corpus, Shipped};
use crate::engine::{Bos, EngineSettings, Model, ModelDims, N_CTX_MIN, Token, VocabFile, scored_together};
use crate::error::{Code, Exit, Failure};
use crate::eval::{self, Divergence, Entry, Journal, Pass, Perplexity, Report, Speed, Subject};
use crate::interrupt::Interrupt;
use crate::model::{self, app_dirs, fingerprint};
use crate::options::{HubArgs, ScoringArgs};
use crate::platform::available_memory;
use crate::prompt::Prompts;
use crate::sanitize::shown;
use crate::stderr;
use crate::table;
use sha2::{Digest as _, Sha256};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tulu_quantize::checkpoint::Config;
use tulu_quantize::gguf::Gguf;
use tulu_quantize::{Ftype, hex};

/// Tokens of the speed tests.
const SPEED_TESTS: [Test; 2] =
    [Test { n_prompt: 256, n_gen: 0, n_parallel: 1 }, Test { n_prompt: 0, n_gen: 32, n_parallel: 1 }];

/// Measure what quantization costs: perplexity, and the distance from the unquantized model
///
/// Prints one table over all files. Perplexity is that of llama-perplexity on the same text: chunks of -c tokens, of which
/// the second half is scored. With --base, the table also has the Kullback-Leibler divergence from the base (KL, in nats:
/// mean, median, percentiles, maximum), the share of tokens for which both have the same most likely token, and the root
/// of the mean square of the difference of the probabilities (RMS Δp). Base and files are computed in one pass. A run that
/// is stopped keeps its finished chunks: run the same command again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tulu-quant eval tulu-2-7b-Q4_K_M.gguf\n  \
    tulu-quant eval --base tulu-2-7b tulu-2-7b-Q4_K_M.gguf tulu-2-7b-Q5_K_M.gguf tulu-2-7b-Q8_0.gguf\n  \
    tulu-quant eval --base tulu-tiny-BF16.gguf tulu-tiny-Q4_K_M.gguf -f wiki.test.raw --json")]
pub(crate) struct Args {
    /// Files to evaluate: .gguf files, or names of models with :TYPE
    #[arg(required = true, value_name = "FILE")]
    files: Vec<OsString>,
    /// Compare with this model: a .gguf file; or a checkpoint folder or model name, converted to BF16 in the cache first
    #[arg(short, long, value_name = "MODEL", env = "TULU_QUANT_BASE")]
    base: Option<OsString>,
    /// Evaluate on this text (plain text in UTF-8; - reads stdin) [default: a text that the program carries]
    #[arg(short, long, value_name = "TEXT", env = "TULU_QUANT_FILE")]
    file: Option<PathBuf>,
    /// Do not measure the speed of prompt processing and generation
    #[arg(long, env = "TULU_QUANT_NO_SPEED")]
    no_speed: bool,
    /// Print the table in Markdown
    #[arg(long, conflicts_with = "json", env = "TULU_QUANT_MARKDOWN")]
    markdown: bool,
    /// Print the results as JSON
    #[arg(long, env = "TULU_QUANT_JSON")]
    json: bool,
    #[command(flatten)]
    hub: HubArgs,
    #[command(flatten)]
    scoring: ScoringArgs,
}

/// A model of the run before it is loaded.
struct Candidate {
    path: PathBuf,
    is_base: bool,
    dims: ModelDims,
    n_params: u64,
    bytes: u64,
    tensor_bytes: u64,
}

/// Runs the subcommand.
pub(crate) fn run(args: &Args) -> Result<Exit, Failure> {
    let settings = args.scoring.settings()?;
    let n_ctx = args.scoring.n_ctx();
    let corpus = Corpus::read(args.file.as_deref(), Shipped::Evaluation)?;
    let interrupt = Interrupt::install()?;
    let candidates = candidates(args, &interrupt)?;
    let chunks = chunks_for(&candidates, &corpus, n_ctx, args.scoring.chunks())?;
    let memory = forecast(&candidates, &settings, &chunks, n_ctx)?;
    stderr::line(&format!(
        "Evaluating {} on {} of {n_ctx} tokens of {}, with about {} of memory",
        table::count(candidates.len(), "model", "models"),
        table::count(chunks.len(), "chunk", "chunks"),
        corpus.name,
        table::bytes(memory),
    ));
    let identity = identity(&candidates, &corpus, &settings, n_ctx, chunks.len())?;
    let name = format!("{}.scores", hex(&Sha256::digest(&identity)[..8]));
    let mut journal = Journal::open(&app_dirs::cache_dir()?.join("eval").join(name), &identity, candidates.len())?;
    let models = load(&candidates, &settings, &interrupt)?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let pass = Pass { chunks: &chunks, n_ctx, n_threads: threads, interrupt: &interrupt };
    let mut subjects = Vec::new();
    for (index, model) in models.iter().enumerate() {
        let context = model.scoring_context(n_ctx, None, &interrupt)?;
        let path = model.path().to_owned();
        subjects.push(Subject { index, path, context, time: Duration::ZERO, n_tokens: 0 });
    }
    let (mut bases, mut others): (Vec<_>, Vec<_>) = subjects.into_iter().partition(|s| candidates[s.index].is_base);
    eval::pass(&pass, bases.first_mut(), &mut others, &mut journal)?;
    drop((bases, others));
    let entries = entries(args, &candidates, &models, &journal, &interrupt)?;
    let report = Report {
        text: corpus.name.clone(),
        text_sha256: corpus.sha256(),
        n_ctx,
        n_chunks: chunks.len(),
        n_scored: chunks.iter().map(|chunk| chunk.scored.len()).sum(),
        entries,
    };
    let printed = crate::stdout::print(&match (args.json, args.markdown) {
        (true, _) => format!("{:#}\n", report.json()),
        (_, true) => report.markdown(),
        _ => report.table(),
    })?;
    journal.delete();
    Ok(printed)
}

/// Finds the files of all models, the base first. A file that is the base is evaluated once.
fn candidates(args: &Args, interrupt: &Interrupt) -> Result<Vec<Candidate>, Failure> {
    let mut paths = Vec::new();
    let options = args.hub.options();
    if let Some(base) = &args.base {
        paths.push((model::resolve_as(base, Ftype::BF16, &options, interrupt)?, true));
    }
    for file in &args.files {
        let path = model::resolve(Some(file), &options, interrupt)?;
        if !paths.iter().any(|(known, _)| same_file(known, &path)) {
            paths.push((path, false));
        }
    }
    paths.into_iter().map(|(path, is_base)| candidate(path, is_base)).collect()
}

fn same_file(one: &Path, other: &Path) -> bool {
    let full = |path: &Path| std::fs::canonicalize(path).ok();
    one == other || full(one).is_some() && full(one) == full(other)
}

fn candidate(path: PathBuf, is_base: bool) -> Result<Candidate, Failure> {
    let gguf = Gguf::open(&path)?;
    let unsound = |what| Failure::input(Code::Model, what, "give a LLaMA model").at(&path);
    let dims = ModelDims::of(&Config::from_gguf(&gguf).map_err(unsound)?, gguf.tensor_bytes());
    let (n_params, bytes, tensor_bytes) = (gguf.n_params(), gguf.len, gguf.tensor_bytes());
    Ok(Candidate { path, is_base, dims, n_params, bytes, tensor_bytes })
}

/// Cuts the text with the vocabulary of the first model, after checking that all models have it.
fn chunks_for(
    candidates: &[Candidate],
    corpus: &Corpus,
    n_ctx: usize,
    n_max: Option<usize>,
) -> Result<Vec<Chunk>, Failure> {
    let Some((first, others)) = candidates.split_first() else { return Ok(Vec::new()) };
    let known = eval::vocabulary(&first.path)?;
    for other in others {
        if eval::vocabulary(&other.path)? != known {
            let what = format!("has another vocabulary than {}", shown(&first.path));
            let fix = "compare files of one model";
            return Err(Failure::input(Code::Vocabulary, what, fix).at(&other.path));
        }
    }
    let file = VocabFile::open(&first.path, Bos::Auto)?;
    let prompts = Prompts::new(file.vocab(), None)?;
    corpus::chunks(corpus, &prompts, &file.vocab(), n_ctx, n_max)
}

/// Returns the bytes of memory that all models need at the same time.
///
/// # Errors
/// `MEMORY` when this is more than is available.
fn forecast(
    candidates: &[Candidate],
    settings: &EngineSettings,
    chunks: &[Chunk],
    n_ctx: usize,
) -> Result<u64, Failure> {
    let together = scored_together(n_ctx);
    let cells = u32::try_from(together * n_ctx).unwrap_or(u32::MAX);
    let rows = together * chunks.first().map_or(0, |chunk| chunk.scored.len());
    let logits = |dims: &ModelDims| 4 * u64::from(dims.n_vocab) * rows as u64;
    let all = candidates.iter().map(|one| one.dims.memory_needed(settings, cells) + logits(&one.dims)).sum();
    let available = available_memory();
    if all <= available.bytes {
        return Ok(all);
    }
    let what = format!(
        "the models need {} of memory together, and {} {}",
        table::gib(all),
        table::gib(available.bytes),
        available.bound
    );
    let fix = format!("{}, or evaluate fewer files at once", available.more);
    Err(Failure::machine(Code::Memory, what, fix))
}

/// Returns what the scores depend on, on one line.
fn identity(
    candidates: &[Candidate],
    corpus: &Corpus,
    settings: &EngineSettings,
    n_ctx: usize,
    n_chunks: usize,
) -> Result<String, Failure> {
    let files: Vec<_> = candidates.iter().map(|one| fingerprint(&one.path)).collect::<Result<_, _>>()?;
    let base = candidates.first().is_some_and(|one| one.is_base);
    Ok(serde_json::json!({
        "version": 1, "text": corpus.sha256(), "n_ctx": n_ctx, "n_chunks": n_chunks, "base": base, "files": files,
        "type_k": settings.type_k.name(), "type_v": settings.type_v.name(), "flash_attn": settings.flash_attn.name(),
        "gpu_layers": settings.n_gpu_layers,
    })
    .to_string())
}

fn load(candidates: &[Candidate], settings: &EngineSettings, interrupt: &Interrupt) -> Result<Vec<Model>, Failure> {
    let load = |one: &Candidate| load_model::model(&one.path, settings.clone(), Some(1), interrupt);
    candidates.iter().map(load).collect()
}

/// Makes the entries of the table, and measures speeds. Speeds come last, because contexts for them use kernels of this
/// program, and the numbers are to be llama.cpp's.
fn entries(
    args: &Args,
    candidates: &[Candidate],
    models: &[Model],
    journal: &Journal,
    interrupt: &Interrupt,
) -> Result<Vec<Entry>, Failure> {
    let base = candidates.iter().position(|one| one.is_base).map(|index| journal.scores(index));
    let mut entries = Vec::new();
    for (index, (one, model)) in candidates.iter().zip(models).enumerate() {
        let scores = journal.scores(index);
        entries.push(Entry {
            path: one.path.clone(),
            variant: None,
            bytes: one.bytes,
            bits_per_weight: one.tensor_bytes as f64 * 8.0 / one.n_params.max(1) as f64,
            memory: one.dims.memory_with_defaults(),
            perplexity: Perplexity::of(&scores),
            divergence: base.as_ref().filter(|_| !one.is_base).map(|base| Divergence::of(&scores, base)),
            speed: if args.no_speed { None } else { speed(model, interrupt)? },
            is_base: one.is_base,
        });
    }
    Ok(entries)
}

/// Measures the speed of a model once. `None` when it was interrupted.
fn speed(model: &Model, interrupt: &Interrupt) -> Result<Option<Speed>, Failure> {
    let mut context = model.context(interrupt)?;
    let bos = model.vocab().bos().unwrap_or(Token::new(0));
    let mut means = Vec::new();
    for test in SPEED_TESTS {
        let Some(measured) = bench::measure(&mut context, bos, test, 1, |_| (), interrupt)? else {
            return match interrupt.asked() {
                Some(exit) => Err(model::stopped(exit)),
                None => Ok(None),
            };
        };
        means.extend(measured.speeds());
    }
    Ok(match means[..] {
        [prompt, generation] => Some(Speed { prompt, generation }),
        _ => None,
    })
}

const _: () = assert!(SPEED_TESTS[0].n_prompt <= N_CTX_MIN);
