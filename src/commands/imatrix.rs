//! `imatrix`: computes an importance matrix, merges several, or describes one. The computation is in `imatrix/`.

use super::compute_imatrix::{Job, compute};
use super::load_model;
use crate::atomic_file::{self, Mode};
use crate::corpus::{Corpus, Shipped};
use crate::error::{Code, Exit, Failure};
use crate::imatrix;
use crate::interrupt::Interrupt;
use crate::model::{self, if_exists};
use crate::options::{HubArgs, ScoringArgs};
use crate::sanitize::shown;
use crate::stderr;
use crate::table;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use tulu_quantize::{Ftype, ImatrixSums};

/// Compute an importance matrix, which makes small quantized files better
///
/// Runs the model on a text and sums the squares of what enters each matrix, as llama-imatrix does, into the same GGUF
/// file. `convert --imatrix FILE` and llama-quantize read it. A checkpoint folder or the name of a model is converted to
/// BF16 in the cache first. A run that is stopped keeps what it has: run the same command again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tulu-quant imatrix tulu-2-7b -o tulu-2-7b.imatrix.gguf\n  \
    tulu-quant imatrix tulu-2-7b-Q8_0.gguf -f calibration.txt -o tulu-2-7b.imatrix.gguf\n  \
    tulu-quant imatrix --in-file a.gguf --in-file b.gguf -o both.gguf\n  \
    tulu-quant imatrix --show tulu-2-7b.imatrix.gguf")]
pub(crate) struct Args {
    /// A .gguf file, a checkpoint folder or the name of a model; without it, the files of --in-file are merged
    #[arg(env = "TULU_QUANT_MODEL")]
    model: Option<OsString>,
    /// Compute on this text (UTF-8; - reads stdin) [default: a calibration text that the program carries]
    #[arg(short, long, value_name = "TEXT", env = "TULU_QUANT_FILE")]
    file: Option<PathBuf>,
    /// Write the importance matrix to this file
    #[arg(short, long, value_name = "FILE", default_value = "imatrix.gguf", env = "TULU_QUANT_OUTPUT")]
    output: PathBuf,
    /// Add this importance matrix (GGUF or .dat); repeatable
    #[arg(long, value_name = "FILE", env = "TULU_QUANT_IN_FILE")]
    in_file: Vec<PathBuf>,
    /// Collect data for output.weight too, as llama-imatrix's flag does
    #[arg(long, env = "TULU_QUANT_PROCESS_OUTPUT")]
    process_output: bool,
    /// Replace an existing file
    #[arg(long, env = "TULU_QUANT_FORCE")]
    force: bool,
    /// Describe this importance matrix, and compute nothing
    #[arg(long, alias = "show-statistics", value_name = "FILE", conflicts_with_all = ["model", "in_file"],
          env = "TULU_QUANT_SHOW")]
    show: Option<PathBuf>,
    /// With --show, print JSON
    #[arg(long, env = "TULU_QUANT_JSON")]
    json: bool,
    #[command(flatten)]
    hub: HubArgs,
    #[command(flatten)]
    scoring: ScoringArgs,
}

/// Runs the subcommand.
pub(crate) fn run(args: &Args) -> Result<Exit, Failure> {
    let chunk_size = u32::try_from(args.scoring.n_ctx()).unwrap_or(u32::MAX);
    if let Some(file) = &args.show {
        let sums = ImatrixSums::read(file, chunk_size)?;
        let text = if args.json { format!("{:#}\n", imatrix::json(&sums)) } else { imatrix::table(&sums) };
        return crate::stdout::print(&text);
    }
    if !args.force && if_exists::metadata(&args.output)?.is_some() {
        let fix = "give another -o, or --force";
        return Err(Failure::input(Code::OutputExists, "the file exists", fix).at(&args.output));
    }
    let mut all = ImatrixSums { chunk_size, ..ImatrixSums::default() };
    for file in &args.in_file {
        all.add(&ImatrixSums::read(file, chunk_size)?, file)?;
    }
    let Some(model) = &args.model else {
        if args.in_file.is_empty() {
            let fix = "give a MODEL, or --in-file";
            return Err(Failure::input(Code::Usage, "there is neither a model nor a file to merge", fix));
        }
        return write(args, &all);
    };
    let interrupt = Interrupt::install()?;
    let corpus = Corpus::read(args.file.as_deref(), Shipped::Calibration)?;
    let path = model::resolve_as(model, Ftype::BF16, &args.hub.options(), &interrupt)?;
    let settings = args.scoring.settings()?;
    let model = load_model::model(&path, settings, Some(1), &interrupt)?;
    let (n_ctx, n_max) = (args.scoring.n_ctx(), args.scoring.chunks());
    let job = Job { model: &model, corpus: &corpus, n_ctx, n_max, process_output: args.process_output };
    all.add(&compute(&job, &interrupt)?, &args.output)?;
    write(args, &all)
}

fn write(args: &Args, sums: &ImatrixSums) -> Result<Exit, Failure> {
    if let Some(folder) = args.output.parent().filter(|folder| *folder != Path::new("")) {
        std::fs::create_dir_all(folder).map_err(|err| Failure::io(folder, "cannot create the folder", &err))?;
    }
    atomic_file::write(&args.output, &sums.encode(), Mode::Umask)?;
    stderr::line(&format!(
        "Wrote {}: {} of {} tokens, {}",
        shown(&args.output),
        table::count(sums.chunk_count(), "chunk", "chunks"),
        sums.chunk_size,
        table::count(sums.entries.len(), "entry", "entries")
    ));
    Ok(Exit::Done)
}
