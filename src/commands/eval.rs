//! `eval`: perplexity of several files, and their distance from a base, in one table. The computation is in `eval/`, the
//! texts are in `corpus/`.

mod args;
mod by_tensor;
mod candidates;
mod compute;
mod entries;
mod evaluate;
mod inputs;
mod setup;
mod suggest;
mod swap;
mod temporary;
mod work_folder;

pub(crate) use args::Args;
pub(super) use evaluate::Job;
pub(super) use temporary::base_type;

use crate::atomic_file::{self, Mode};
use crate::corpus::{Corpus, Shipped};
use crate::engine::EngineSettings;
use crate::error::{Code, Exit, Failure};
use crate::eval::Report;
use crate::interrupt::Interrupt;
use crate::stderr;
use candidates::candidates;
use evaluate::{Evaluated, evaluate};
use inputs::Inputs;
use serde_json::{Value, json};
use std::path::PathBuf;
use suggest::{Suggestion, suggest};
use work_folder::WorkFolder;

/// Runs the subcommand.
pub(crate) fn run(args: &Args) -> Result<Exit, Failure> {
    let settings = args.scoring.settings()?;
    check(args)?;
    let corpus = Corpus::read(args.file.as_deref(), Shipped::Evaluation)?;
    let interrupt = Interrupt::install()?;
    work_folder::clean()?;
    let job = Job {
        corpus: &corpus,
        n_ctx: args.scoring.n_ctx(),
        n_max: args.scoring.chunks(),
        base_file: args.base_file.as_deref(),
        encoding: args.base_encoding,
        with_speed: !args.no_speed,
        folder: None,
        interrupt: &interrupt,
    };
    if let Some(bytes_max) = args.suggest {
        return print_suggestion(args, suggest(args, bytes_max, &settings, &job)?);
    }
    let Inputs { base, files, folder } = inputs::find(args, &interrupt)?;
    let mut candidates = candidates(base, files, &settings, &args.kv, &args.offload)?;
    for one in &mut candidates {
        one.is_temporary = folder.as_ref().is_some_and(|folder| one.path.starts_with(folder.path()));
    }
    if let (Some(by), Some(folder)) = (args.by_tensor, &folder) {
        by_tensor::add(&mut candidates, by, folder.path())?;
    }
    let job = Job { folder: folder.as_ref().map(WorkFolder::path), ..job };
    let evaluated = evaluate(&job, &candidates)?;
    if let Some(file) = &args.html {
        atomic_file::write(file, evaluated.page(&candidates)?.as_bytes(), Mode::Umask)?;
    }
    let printed = print(args, &evaluated.report, evaluated.report.json())?;
    evaluated.finish()?;
    Ok(printed)
}

/// Prints the results of `--suggest`, and the command that converts.
fn print_suggestion(args: &Args, found: Suggestion) -> Result<Exit, Failure> {
    let report = &found.evaluated.report;
    if let Some(file) = &args.html {
        atomic_file::write(file, found.evaluated.page(&found.candidates)?.as_bytes(), Mode::Umask)?;
    }
    let mut json = report.json();
    let rules = found.rules.iter().map(|(pattern, kind)| json!({"pattern": pattern, "type": kind.name()}));
    json["suggestion"] = json!({"command": found.command, "rules": rules.collect::<Vec<_>>(),
                                "kl_sum_of_groups": found.expected, "mix_is_better": found.mix_is_better});
    print(args, report, json)?;
    if found.mix_is_better {
        stderr::note("a mix of llama.cpp that fits is as good or better than the types chosen here");
    }
    let printed = if args.json { Exit::Done } else { crate::stdout::print(&format!("\n{}\n", found.command))? };
    found.evaluated.finish()?;
    Ok(printed)
}

/// Evaluates `files` against `base`.
pub(super) fn evaluate_files(
    base: PathBuf,
    files: Vec<PathBuf>,
    settings: &EngineSettings,
    job: &Job<'_>,
) -> Result<Evaluated, Failure> {
    evaluate(job, &candidates(Some(base), files, settings, &[], &[])?)
}

/// Checks what the parser of the flags cannot.
fn check(args: &Args) -> Result<(), Failure> {
    let wrong = |what: &str, fix: &str| Err(Failure::input(Code::Usage, what, fix));
    if args.imatrix.is_some() && args.types.is_empty() && args.suggest.is_none() {
        return wrong("--imatrix is for files that this command makes", "give --types or --suggest");
    }
    if args.by_tensor.is_some() && args.base.is_none() && args.types.is_empty() {
        return wrong("--by-tensor swaps tensors of a base and of a file", "give --base and a FILE, or --types");
    }
    Ok(())
}

/// Prints the results; `json` is printed with --json.
fn print(args: &Args, report: &Report, json: Value) -> Result<Exit, Failure> {
    let printed = crate::stdout::print(&match (args.json, args.markdown) {
        (true, _) => format!("{json:#}\n"),
        (_, true) => report.markdown(),
        _ => report.table(),
    })?;
    if let Some(bound) = report.bound().filter(|_| !args.json) {
        stderr::note(&format!("the stored base makes the mean KL divergence wrong by at most {bound:.1e}"));
    }
    Ok(printed)
}
