//! `verify`: checks a GGUF file, and compares it with its source if asked. A checkpoint folder is checked in
//! `verify/folder.rs`.

mod folder;

use super::local_model::{self, LocalModel};
use crate::error::{Code, Exit, Failure};
use crate::interrupt::Interrupt;
use crate::model::resolve::available_threads;
use crate::sanitize::{one_line, shown};
use crate::table::{self, Align};
use crate::watch::Watch;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::num::NonZeroUsize;
use tulu_quantize::gguf::Gguf;
use tulu_quantize::{Check, Checkpoint, Reference, Verdict, verify};

/// Check a GGUF file (structure, blocks, NaN and infinities, sha256; with --against also the error of every tensor, the
/// configuration and the vocabulary) or a checkpoint (structure, NaN and infinities, the hashes recorded in its folder)
#[derive(Debug, clap::Args)]
#[command(after_help = "The exit code is 1 when a check fails.\n\nExamples:\n  \
    tulu-quant verify tulu-2-13b-Q4_K_M.gguf\n  tulu-quant verify tulu-2-13b-Q4_K_M.gguf --against tulu-2-13b\n  \
    tulu-quant verify tulu-2-dpo-13b")]
pub(crate) struct Args {
    /// A .gguf file, a checkpoint folder, or the name of a model on this machine (with :TYPE its GGUF file)
    #[arg(value_name = "MODEL")]
    file: OsString,
    /// Compare with the source: a checkpoint folder, a lossless .gguf file, or a model's name
    #[arg(long, value_name = "SOURCE", env = "TULU_QUANT_AGAINST")]
    against: Option<OsString>,
    /// Require this sha256 of the file: 64 hexadecimal digits
    #[arg(long, value_name = "SUM", env = "TULU_QUANT_SHA256")]
    sha256: Option<String>,
    /// Run on N threads [default: every core]
    #[arg(short, long, value_name = "N", env = "TULU_QUANT_THREADS")]
    threads: Option<NonZeroUsize>,
    /// Print the findings as one JSON object
    #[arg(long, env = "TULU_QUANT_JSON")]
    json: bool,
}

/// Number of tensors to list: those with the largest errors.
const WORST: usize = 5;

/// Runs the subcommand.
pub(crate) fn run(args: &Args) -> Result<Exit, Failure> {
    let interrupt = Interrupt::install()?;
    let expected = args.sha256.as_deref().map(digits).transpose()?;
    let n_threads = args.threads.unwrap_or_else(available_threads);
    let path = match local_model::find(&args.file)? {
        LocalModel::File(path) => path,
        LocalModel::Folder(path) if args.against.is_some() || expected.is_some() => {
            let fix = "leave --against and --sha256 out, or give a .gguf file";
            return Err(Failure::input(
                Code::Usage,
                "--against and --sha256 are for GGUF files, and this is a folder",
                fix,
            )
            .at(path));
        }
        LocalModel::Folder(path) => return folder::run(&path, n_threads, args.json, &interrupt),
    };
    let file = Gguf::open(&path)?;
    let against = match args.against.as_deref().map(local_model::find).transpose()? {
        None => None,
        Some(LocalModel::Folder(path)) => Some(Reference::checkpoint(Checkpoint::open(&path)?)?),
        Some(LocalModel::File(path)) => Some(Reference::gguf(Gguf::open(&path)?)),
    };
    let total = file.tensor_bytes();
    let watch = Watch::new("verifying", total, &interrupt);
    let verdict = verify(&file, against.as_ref(), n_threads, &watch);
    watch.clear();
    let verdict = match verdict {
        Ok(verdict) => verdict,
        Err(err) => {
            return Err(Failure { exit: interrupt.asked().unwrap_or(Failure::from(err.clone()).exit), ..err.into() });
        }
    };
    let verdict = match expected.filter(|expected| *expected != verdict.sha256) {
        None => verdict,
        Some(expected) => {
            let mut problems = verdict.problems;
            problems.insert(0, format!("has the sha256 {}, not {expected}", verdict.sha256));
            Verdict { problems, ..verdict }
        }
    };
    crate::stdout::print(&if args.json { to_json(&verdict) + "\n" } else { report(&file, &verdict) })?;
    Ok(if verdict.is_good() { Exit::Done } else { Exit::Partial })
}

/// Parses the value of `--sha256`. Ignores case, a leading `sha256:`, and the text after the digits, as in a line of
/// `sha256sum`.
fn digits(text: &str) -> Result<String, Failure> {
    let first = text.split_whitespace().next().unwrap_or_default().to_lowercase();
    let sum = first.strip_prefix("sha256:").unwrap_or(&first);
    if sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(sum.to_owned());
    }
    let what = format!("--sha256 is '{text}', which is not 64 hexadecimal digits");
    Err(Failure::input(Code::Usage, what, "give it as sha256sum prints it"))
}

fn report(file: &Gguf, verdict: &Verdict) -> String {
    let mut out = format!(
        "{}\n  {} in {} tensors\n  sha256 {}\n",
        shown(&file.path),
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
            rows.push([one_line(&t.name), t.ggml_type.to_string()].into_iter().chain(cells).collect());
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
    for note in &verdict.notes {
        out += &format!("  note: {}\n", one_line(note));
    }
    for problem in &problems {
        out += &format!("  WRONG: {}\n", one_line(problem));
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
            json!({"name": t.name, "type": t.ggml_type.name(), "problem": t.problem, "rmse": d.map(|d| d.rmse),
                   "max": d.map(|d| d.max), "relative": d.map(|d| d.relative)})
        })
        .collect();
    json!({"good": verdict.is_good(), "sha256": verdict.sha256, "problems": verdict.problems, "notes": verdict.notes,
        "tensors": tensors})
    .to_string()
}
