//! `tulu-quant batch`: answers a file of records. As typed → checked → journal → model → run → output.

use super::load;
use crate::batch::{Contents, Defaults, Journal, Lines, Run, Tally, Watch, fingerprint};
use crate::cli::{EngineArgs, SamplingArgs};
use crate::decode::Decoder;
use crate::engine::{Sampling, Settings};
use crate::error::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::model;
use crate::progress::Bar;
use crate::prompt::Prompts;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Answer a file of records offline; run it again to go on after an interruption
///
/// FILE holds OpenAI batch lines, one JSON object each, for /v1/chat/completions (messages)
/// or /v1/completions (prompt):
///
///   {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions",
///    "body": {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 64}}
///
/// OUT gets one line for each line of FILE, in its order: {"id", "custom_id", "response",
/// "error"}. A line that cannot be answered costs only its own record: there "response" is
/// null and "error" has a code, a message and the line; the exit code is then 1.
///
/// A record's body may set max_tokens (or max_completion_tokens), temperature, top_p, seed,
/// stop, and also top_k, min_p and repeat_penalty. Where it does not, the flags count; without
/// them it is greedy (with a temperature: top_k 0, top_p 1), up to the end of the window.
///
/// Finished records are kept in OUT.journal until OUT is complete. The same command goes on
/// with it; with another input, model or setting it refuses (RESUME_MISMATCH) and says how to
/// begin again.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:\n  tulu-quant batch tulu-2-13b-Q4_K_M.gguf -i prompts.jsonl -o answers.jsonl\n  \
                  tulu-quant batch tulu-2-13b-Q4_K_M.gguf -i in.jsonl -o out.jsonl -np 8 -n 512 --temp 0.7"
)]
pub(crate) struct Args {
    /// A short name, Hub id, folder or .gguf file
    #[arg(env = "TULU_QUANT_MODEL")]
    model: String,
    /// OpenAI batch lines
    #[arg(short, long, value_name = "FILE", env = "TULU_QUANT_INPUT")]
    input: PathBuf,
    /// Where the results go
    #[arg(short, long, value_name = "OUT", env = "TULU_QUANT_OUTPUT")]
    output: PathBuf,
    /// Records answered at the same time (-np); each takes a window of memory of its own
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256),
          env = "TULU_QUANT_PARALLEL")]
    parallel: u32,
    /// Replace OUT if it exists
    #[arg(long, env = "TULU_QUANT_FORCE")]
    force: bool,
    /// Discard what an earlier run has finished, and begin again
    #[arg(long, env = "TULU_QUANT_RESTART")]
    restart: bool,
    /// Write the summary to stdout as JSON
    #[arg(long, env = "TULU_QUANT_JSON")]
    json: bool,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<Exit, Failure> {
    let settings = args.engine.settings()?;
    // Without a temperature the rest has no effect; a record that gives one expects what OpenAI's API would do.
    let neutral = Sampling { top_k: 0, top_p: 1.0, ..Sampling::greedy() };
    let sampling = args.sampling.sampling(neutral)?;
    let max_tokens = args.sampling.max_tokens(u32::MAX)?;

    let contents = Lines::open(&args.input)?.contents()?;
    if same_file(&args.input, &args.output) {
        return Err(Failure::input("OUTPUT", "is the input", "give another -o").at(&args.output));
    }
    let mut journal = Journal::open(&args.output, args.restart, args.force)?;
    let interrupt = Interrupt::install()?;
    let model_file = model::resolve(Some(&args.model), &interrupt)?;
    // As the user calls it: a folder's converted file has a name of the cache's making.
    let typed = Path::new(&args.model);
    let name = if typed.is_file() { typed.file_stem() } else { typed.file_name() };
    let name = name.unwrap_or_default().to_string_lossy().into_owned();
    let defaults = Defaults { sampling, max_tokens, model: name };
    journal.begin(&identity(&contents, &model_file, &settings, &defaults)?)?;
    if journal.dropped() > 0 {
        note(&format!("{} bytes of a record that was not finished were dropped from the journal", journal.dropped()));
    }
    let resumed = journal.len();
    if resumed > 0 {
        note(&format!("going on after {resumed} of {} records", contents.lines));
    }

    let began = Instant::now();
    let (tally, stopped) = if resumed == contents.lines {
        (Tally::default(), None)
    } else {
        answer(args, &model_file, settings, &defaults, &contents, &mut journal, &interrupt)
            .inspect_err(|_| note("what is finished is kept; the same command goes on with it"))?
    };
    if let Some(exit) = stopped {
        let what = format!("stopped with {} of {} records finished", journal.len(), contents.lines);
        return Err(Failure { exit, ..Failure::input("INTERRUPTED", what, format!("go on with: {}", command_line())) });
    }
    let (records, failed) = (journal.len(), journal.failed());
    journal.finish()?;
    summary(args, &tally, records, failed, resumed, began.elapsed().as_secs_f64())?;
    Ok(if failed > 0 { Exit::Partial } else { Exit::Done })
}

/// Loads the model and answers what the journal lacks.
fn answer(
    args: &Args,
    model: &Path,
    settings: Settings,
    defaults: &Defaults,
    contents: &Contents,
    journal: &mut Journal,
    interrupt: &Interrupt,
) -> Result<(Tally, Option<Exit>), Failure> {
    let slots = args.parallel.min(u32::try_from(contents.lines - journal.len()).unwrap_or(u32::MAX));
    let model = load::model(model, settings, slots, interrupt)?;
    let template = model.chat_template();
    let prompts = Prompts::new(model.vocab(), template.as_deref()).map_err(|failure| failure.at(model.path()))?;
    let decoder = Decoder::new(&model, interrupt)?;
    let mut watch = Terminal { bar: Bar::items("answering", "records", contents.lines), began: Instant::now() };
    let run = Run::new(decoder, &prompts, journal, defaults, contents, &mut watch);
    run.finish(Lines::open(&args.input)?, interrupt).map_err(|failure| match failure.code {
        "INPUT_CHANGED" => failure.at(&args.input),
        _ => failure,
    })
}

/// The run on the terminal.
struct Terminal {
    bar: Bar,
    began: Instant,
}

impl Watch for Terminal {
    fn notice(&mut self, text: &str) {
        self.bar.above(|| note(text));
    }

    fn step(&mut self, tally: &Tally, finished: u64) {
        let speed = tally.completion_tokens as f64 / self.began.elapsed().as_secs_f64().max(1e-9);
        self.bar.set(finished);
        self.bar.message(format!("{speed:.1} tokens/s"));
    }
}

/// Everything that the answers depend on. Threads and slots are left out: another machine may go on with a run.
fn identity(contents: &Contents, model: &Path, settings: &Settings, defaults: &Defaults) -> Result<Value, Failure> {
    let sampling = &defaults.sampling;
    Ok(json!({
        "input": {"sha256": contents.sha256, "lines": contents.lines},
        "model": fingerprint(model)?,
        "settings": {
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "min_p": sampling.min_p,
            "repeat_penalty": sampling.repeat_penalty,
            "repeat_last_n": sampling.repeat_last_n,
            "seed": sampling.seed,
            "max_tokens": defaults.max_tokens,
            "ctx_size": settings.n_ctx,
            "cache_types": [settings.type_k.name(), settings.type_v.name()],
        },
        "version": env!("CARGO_PKG_VERSION"),
    }))
}

fn summary(args: &Args, tally: &Tally, records: u64, failed: u64, resumed: u64, seconds: f64) -> Result<(), Failure> {
    let speed = tally.completion_tokens as f64 / seconds.max(1e-9);
    let Tally { answered, cut, prompt_tokens, completion_tokens } = *tally;
    eprintln!(
        "{records} records: {} answered, {failed} failed ({resumed} from an earlier run). {prompt_tokens} prompt and \
         {completion_tokens} answer tokens in {seconds:.1} s, {speed:.1} tokens/s.",
        records - failed
    );
    if cut > 0 {
        note(&format!("{cut} of {answered} answers ended because of a limit (finish_reason \"length\")"));
    }
    if args.json {
        let summary = json!({
            "output": args.output.display().to_string(),
            "records": records,
            "answered": records - failed,
            "failed": failed,
            "resumed": resumed,
            "length": cut,
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "seconds": seconds,
            "tokens_per_second": speed,
        });
        crate::stdout(&format!("{summary}\n"))?;
    }
    Ok(())
}

fn note(text: &str) {
    eprintln!("tulu-quant: note: {text}");
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// The command line as one would type it.
fn command_line() -> String {
    let quoted = |arg: std::ffi::OsString| {
        let arg = arg.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+%".contains(c);
        if !arg.is_empty() && arg.chars().all(plain) {
            arg.into_owned()
        } else {
            format!("'{}'", arg.replace('\'', r"'\''"))
        }
    };
    std::env::args_os().map(quoted).collect::<Vec<_>>().join(" ")
}
