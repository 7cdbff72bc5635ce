//! `verify`: is a GGUF file whole, and how far is it from what it was made from?

use crate::error::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::model::source::threads;
use crate::table::{self, Align};
use crate::watch::Watch;
use serde_json::{Value, json};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use tulu_quantize::gguf::Gguf;
use tulu_quantize::{Check, Checkpoint, Reference, Verdict, verify};

/// Check a GGUF file: structure, blocks, NaN and infinities, sha256; with --against also the error of every tensor
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit code 1 when something is wrong with the file.\n\nExamples:\n  \
    tulu-quant verify tulu-2-13b-Q4_K_M.gguf\n  tulu-quant verify tulu-2-13b-Q4_K_M.gguf --against tulu-2-13b")]
pub(crate) struct Args {
    /// The .gguf file
    file: PathBuf,
    /// What it was made from: a checkpoint folder or a lossless .gguf file
    #[arg(long, value_name = "SOURCE", env = "TULU_QUANT_AGAINST")]
    against: Option<PathBuf>,
    /// Threads [default: every core]
    #[arg(short, long, value_name = "N", env = "TULU_QUANT_THREADS")]
    threads: Option<NonZeroUsize>,
    /// Print the findings as one JSON object
    #[arg(long, env = "TULU_QUANT_JSON")]
    json: bool,
}

/// Tensors listed as the worst.
const WORST: usize = 5;

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<Exit, Failure> {
    let interrupt = Interrupt::install()?;
    let file = Gguf::open(&args.file)?;
    let against = match &args.against {
        None => None,
        Some(path) if super::look(path)?.is_some_and(|found| found.is_dir()) => {
            Some(Reference::checkpoint(Checkpoint::open(path)?)?)
        }
        Some(path) => Some(Reference::Gguf(Box::new(Gguf::open(path)?))),
    };
    let total = file.tensors.iter().map(|t| t.bytes).sum();
    let watch = Watch::new("verifying", total, &interrupt);
    let verdict = verify(&file, against.as_ref(), args.threads.unwrap_or_else(threads), &watch);
    watch.clear();
    let verdict = match verdict {
        Ok(verdict) => verdict,
        Err(err) => {
            return Err(Failure { exit: interrupt.asked().unwrap_or(Failure::from(err.clone()).exit), ..err.into() });
        }
    };
    crate::stdout(&if args.json { to_json(&verdict) + "\n" } else { report(&file, &verdict) })?;
    Ok(if verdict.is_good() { Exit::Done } else { Exit::Partial })
}

fn report(file: &Gguf, verdict: &Verdict) -> String {
    let mut out = format!(
        "{}\n  {} in {} tensors\n  sha256 {}\n",
        file.path.display(),
        table::bytes(file.len),
        file.tensors.len(),
        verdict.sha256
    );
    let mut measured: Vec<&Check> = verdict.tensors.iter().filter(|t| t.distance.is_some()).collect();
    if !measured.is_empty() {
        let relative = |t: &&Check| t.distance.map_or(0.0, |d| d.relative);
        measured.sort_by(|a, b| relative(b).total_cmp(&relative(a)));
        let mut rows =
            vec![["furthest from the source", "type", "RMSE", "of its size", "max"].map(str::to_owned).to_vec()];
        for t in measured.iter().take(WORST) {
            let Some(d) = t.distance else { continue };
            let cells = [format!("{:.3e}", d.rmse), format!("{:.4}", d.relative), format!("{:.3e}", d.max)];
            rows.push([t.name.clone(), t.kind.to_string()].into_iter().chain(cells).collect());
        }
        let align = [Align::Left, Align::Left, Align::Right, Align::Right, Align::Right];
        out += &format!("\n{}\n", table::render(&align, &rows));
    }
    let problems: Vec<String> = verdict
        .problems
        .iter()
        .cloned()
        .chain(verdict.tensors.iter().filter_map(|t| Some(format!("tensor '{}' {}", t.name, t.problem.as_ref()?))))
        .collect();
    for problem in &problems {
        out += &format!("  WRONG: {}\n", crate::sanitize::one_line(problem));
    }
    out += if problems.is_empty() {
        "  nothing is wrong\n"
    } else {
        "  the file is damaged or made from something else\n"
    };
    out
}

fn to_json(verdict: &Verdict) -> String {
    let tensors: Vec<Value> = verdict
        .tensors
        .iter()
        .map(|t| {
            let d = t.distance;
            json!({"name": t.name, "type": t.kind.name(), "problem": t.problem, "rmse": d.map(|d| d.rmse),
                   "max": d.map(|d| d.max), "relative": d.map(|d| d.relative)})
        })
        .collect();
    json!({"good": verdict.is_good(), "sha256": verdict.sha256, "problems": verdict.problems, "tensors": tensors})
        .to_string()
}
