//! `eval`: perplexity of several files, and their distance from a base, in one table. The computation is in `eval/`, the
//! texts are in `corpus/`.

mod candidates;
mod compute;
mod entries;
mod setup;

use crate::atomic_file::{self, Mode};
use crate::corpus::{self, Chunk, Corpus, Purpose, Shipped};
use crate::engine::{Bos, CacheType, GpuLayers, VocabFile};
use crate::error::{Exit, Failure};
use crate::eval::{self, Encoding, Journal, Report};
use crate::interrupt::Interrupt;
use crate::model::{self, app_dirs};
use crate::options::{HubArgs, ScoringArgs};
use crate::prompt::Prompts;
use crate::stderr;
use crate::table;
use candidates::{Candidate, candidates};
use compute::Way;
use setup::Setup;
use sha2::{Digest as _, Sha256};
use std::ffi::OsString;
use std::path::PathBuf;
use tulu_quantize::{Ftype, hex};

/// Measure what quantization costs: perplexity, and the distance from the unquantized model
///
/// Prints one table over all files. Perplexity is that of llama-perplexity on the same text: chunks of -c tokens, of which
/// the second half is scored. With --base, the table also has the Kullback-Leibler divergence from the base (KL, in nats:
/// mean, median, percentiles, maximum), the share of tokens for which both have the same most likely token, and the root
/// of the mean square of the difference of the probabilities (RMS Δp). Base and files are computed in one pass where memory
/// holds them, else one after the other. A run that is stopped keeps what it has: run the same command again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tulu-quant eval tulu-2-7b-Q4_K_M.gguf\n  \
    tulu-quant eval --base tulu-2-7b tulu-2-7b-Q4_K_M.gguf tulu-2-7b-Q5_K_M.gguf tulu-2-7b-Q8_0.gguf\n  \
    tulu-quant eval --base tulu-tiny:BF16 tulu-tiny:Q4_K_M -f wiki.test.raw --json\n  \
    tulu-quant eval tulu-2-7b-Q4_K_M.gguf --kv q8_0,q4_0")]
pub(crate) struct Args {
    /// Files to evaluate: .gguf files, or names of models with :TYPE
    #[arg(required = true, value_name = "FILE")]
    files: Vec<OsString>,
    /// Compare with this model: a .gguf file; or a checkpoint folder or model name, converted to BF16 in the cache first
    #[arg(short, long, value_name = "MODEL", env = "TULU_QUANT_BASE")]
    base: Option<OsString>,
    /// Evaluate on this text: plain text in UTF-8 (- reads stdin), or conversations ({"messages": …} lines in a .jsonl
    /// file), of which only what the assistant writes is scored [default: a text that the program carries]
    #[arg(short, long, value_name = "TEXT", env = "TULU_QUANT_FILE")]
    file: Option<PathBuf>,
    /// Evaluate each file also with these types of the KV cache (keys and values), separated by commas; without --base,
    /// the first file with the type of -ctk and -ctv is the base
    #[arg(long, value_enum, value_name = "TYPES", value_delimiter = ',', env = "TULU_QUANT_KV")]
    kv: Vec<CacheType>,
    /// Evaluate each file also with these numbers of layers on the GPU (numbers, all, auto), separated by commas; without
    /// --base, the first file with the number of -ngl is the base. `-ngl 0 --offload all` compares the GPU with the CPU
    #[arg(long, value_name = "LAYERS", value_delimiter = ',', value_parser = str::parse::<GpuLayers>,
          env = "TULU_QUANT_OFFLOAD")]
    offload: Vec<GpuLayers>,
    /// Keep the base's distributions in this file, and use them if the file has them from an earlier run
    #[arg(long, value_name = "FILE", requires = "base", env = "TULU_QUANT_BASE_FILE")]
    base_file: Option<PathBuf>,
    /// How distributions of the base are stored in a file
    #[arg(long, value_enum, default_value_t, env = "TULU_QUANT_BASE_ENCODING")]
    base_encoding: Encoding,
    /// Do not measure the speed of prompt processing and generation
    #[arg(long, env = "TULU_QUANT_NO_SPEED")]
    no_speed: bool,
    /// Print the table in Markdown; --json takes precedence
    #[arg(long, env = "TULU_QUANT_MARKDOWN")]
    markdown: bool,
    /// Write the results to this file as a page: one HTML file with drawings
    #[arg(long, value_name = "FILE", env = "TULU_QUANT_HTML")]
    html: Option<PathBuf>,
    /// Print the results as JSON
    #[arg(long, env = "TULU_QUANT_JSON")]
    json: bool,
    #[command(flatten)]
    hub: HubArgs,
    #[command(flatten)]
    scoring: ScoringArgs,
}

/// Runs the subcommand.
pub(crate) fn run(args: &Args) -> Result<Exit, Failure> {
    let settings = args.scoring.settings()?;
    let corpus = Corpus::read(args.file.as_deref(), Shipped::Evaluation)?;
    let interrupt = Interrupt::install()?;
    let (base, files) = resolve(args, &interrupt)?;
    let candidates = candidates(base, files, &settings, &args.kv, &args.offload)?;
    let n_ctx = args.scoring.n_ctx();
    let setup = Setup {
        candidates: &candidates,
        corpus: &corpus,
        chunks: &chunks(&candidates, &corpus, n_ctx, args.scoring.chunks())?,
        n_ctx,
        n_threads: std::thread::available_parallelism().map_or(1, usize::from),
        interrupt: &interrupt,
    };
    let (way, memory) = compute::plan(&setup, args.base_file.as_deref(), args.base_encoding)?;
    announce(&setup, &way, memory);
    let identity = setup.identity()?.to_string();
    let name = format!("{}.scores", hex(&Sha256::digest(&identity)[..8]));
    let mut journal = Journal::open(&app_dirs::cache_dir()?.join("eval").join(name), &identity, candidates.len())?;
    let (models, file) = match &way {
        Way::Together => (compute::together(&setup, &mut journal)?, None),
        Way::OneByOne { file, .. } => {
            (Vec::new(), compute::one_by_one(&setup, file, args.base_encoding, &mut journal)?)
        }
    };
    let mut entries = entries::entries(&setup, &journal);
    if !args.no_speed {
        entries::measure(&mut entries, &setup, &models)?;
    }
    let report = Report::new(&corpus, n_ctx, setup.chunks, entries);
    if let Some(file) = &args.html {
        atomic_file::write(file, write_page(&report, &setup, &journal)?.as_bytes(), Mode::Umask)?;
    }
    let printed = crate::stdout::print(&match (args.json, args.markdown) {
        (true, _) => format!("{:#}\n", report.json()),
        (_, true) => report.markdown(),
        _ => report.table(),
    })?;
    if let Some(bound) = report.bound().filter(|_| !args.json) {
        stderr::note(&format!("the stored base makes the mean KL divergence wrong by at most {bound:.1e}"));
    }
    compute::clean(&way, file)?;
    journal.delete();
    Ok(printed)
}

/// Makes the page.
fn write_page(report: &Report, setup: &Setup<'_>, journal: &Journal) -> Result<String, Failure> {
    let (Some(first), Some(base)) = (setup.candidates.first(), setup.base()) else {
        return Ok(eval::page(report, &[]));
    };
    let file = VocabFile::open(&first.path, Bos::Auto)?;
    let base = journal.scores(base);
    let compared = setup.candidates.iter().enumerate().filter(|(_, one)| !one.is_base);
    let details = compared.map(|(i, _)| (i, eval::details(setup.chunks, &journal.scores(i), &base, &file.vocab())));
    Ok(eval::page(report, &details.collect::<Vec<_>>()))
}

/// Finds the files of all models.
fn resolve(args: &Args, interrupt: &Interrupt) -> Result<(Option<PathBuf>, Vec<PathBuf>), Failure> {
    let options = args.hub.options();
    let base = args.base.as_ref().map(|base| model::resolve_as(base, Ftype::BF16, &options, interrupt)).transpose()?;
    let files = args.files.iter().map(|file| model::resolve(Some(file), &options, interrupt));
    Ok((base, files.collect::<Result<_, _>>()?))
}

/// Cuts the text with the vocabulary of the first model.
fn chunks(
    candidates: &[Candidate],
    corpus: &Corpus,
    n_ctx: usize,
    n_max: Option<usize>,
) -> Result<Vec<Chunk>, Failure> {
    let Some(first) = candidates.first() else { return Ok(Vec::new()) };
    let file = VocabFile::open(&first.path, Bos::Auto)?;
    let template = if corpus.is_conversations() { file.chat_template() } else { None };
    let prompts = Prompts::new(file.vocab(), template.as_deref()).map_err(|failure| failure.at(&first.path))?;
    corpus::chunks(corpus, Purpose::Score, &prompts, &file.vocab(), n_ctx, n_max)
}

/// Says what is going to be done.
fn announce(setup: &Setup<'_>, way: &Way, memory: u64) {
    stderr::line(&format!(
        "Evaluating {} on {} of {} tokens of {}, {}, with about {} of memory",
        table::count(setup.candidates.len(), "model", "models"),
        table::count(setup.chunks.len(), "chunk", "chunks"),
        setup.n_ctx,
        setup.corpus.name,
        if *way == Way::Together { "side by side" } else { "one after the other" },
        table::bytes(memory),
    ));
}
