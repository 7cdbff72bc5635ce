//! `tulu-quant batch`: what is typed. What comes of it is in `job` (as typed → checked → input → model → run), `identity`
//! (what the answers depend on) and `file` (journal → output → manifest), what the user sees while it runs in `watch`, what
//! is said at its end in `summary`; `merge` joins shards.

mod file;
mod identity;
mod job;
mod merge;
mod summary;
mod watch;

use crate::batch::Format;
use crate::error::{Exit, Failure};
use crate::options::{EngineArgs, HubArgs, SamplingArgs};
use job::Job;
use std::ffi::OsString;
use std::path::PathBuf;

/// Answer a file of records offline; run it again to go on after an interruption
///
/// FILE holds OpenAI batch lines, one JSON object each, for /v1/chat/completions (messages)
/// or /v1/completions (prompt):
///
///   {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions",
///    "body": {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 64}}
///
/// or instructions of AlpacaEval, questions of MT-Bench, or a prompt a line (--format; it is
/// guessed where that is plain). OUT is written as each format's own tools read it, in the
/// order of FILE. A record that cannot be answered costs only itself: its error has a code, a
/// message and the line; the exit code is then 1. With alpaca-eval and mt-bench such errors go
/// to OUT.errors.
///
/// An OpenAI record's body may set max_tokens (or max_completion_tokens), temperature, top_p,
/// seed, stop, n, logprobs, top_logprobs, presence_penalty, frequency_penalty, and also top_k,
/// min_p, repetition_penalty (over prompt and answer) and repeat_penalty (over the last
/// tokens). Where it does not, the flags count; without them it is greedy (with a temperature:
/// top_k 0, top_p 1), up to the end of the window.
///
/// Finished records are kept in OUT.journal until all are answered. The same command goes on
/// with it, also when FILE got more lines or another order; with another model or setting, or
/// a changed line, it refuses (RESUME_MISMATCH) and says how to begin again. When OUT is
/// finished, the same command says so and ends with 0. OUT.manifest.json says what OUT was
/// made of.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:\n  tulu-quant batch tulu-2-13b-Q4_K_M.gguf -i prompts.jsonl -o answers.jsonl\n  \
                  tulu-quant batch tulu-2-13b-Q4_K_M.gguf -i in.jsonl -o out.jsonl -np 8 -n 512 --temp 0.7\n  \
                  tulu-quant batch tulu-2-dpo-13b-Q4_K_M.gguf -i alpaca_eval.json -o outputs.json\n  \
                  tulu-quant batch tulu-2-dpo-13b-Q4_K_M.gguf -i question.jsonl -o model_answer/tulu-2-dpo-13b.jsonl\n  \
                  head -5 prompts.txt | tulu-quant batch MODEL --format text -i - -o - | jq -r .output\n  \
                  tulu-quant batch MODEL -i in.jsonl -o 'part-{shard}.jsonl' --shard auto/8   # one of 8 machines\n  \
                  tulu-quant batch merge -o out.jsonl part-*.jsonl"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Sub>,
    /// A short name, Hub id, folder or .gguf file
    #[arg(required = true, env = "TULU_QUANT_MODEL")]
    model: Option<OsString>,
    /// The records; - for stdin
    #[arg(short, long, required = true, value_name = "FILE", env = "TULU_QUANT_INPUT")]
    input: Option<PathBuf>,
    /// Where the results go; {shard} becomes 00001-of-00008; - for stdout, where nothing is kept for another run
    #[arg(short, long, required = true, value_name = "OUT", env = "TULU_QUANT_OUTPUT")]
    output: Option<PathBuf>,
    /// How records and results are written [default: what FILE looks like]
    #[arg(long, value_enum, env = "TULU_QUANT_FORMAT")]
    format: Option<Format>,
    /// The model's name in the results [default: that of the file]
    #[arg(long, value_name = "NAME", env = "TULU_QUANT_GENERATOR")]
    generator: Option<String>,
    /// Answers to each record that does not say how many
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=128),
          env = "TULU_QUANT_NUM_CHOICES")]
    num_choices: u32,
    /// Answers written at the same time (-np) [default: what the memory has room for, up to 32]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256), env = "TULU_QUANT_PARALLEL")]
    parallel: Option<u32>,
    /// Tokens of the KV cache for all of them together [default: a window for each, or half of the free memory]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), env = "TULU_QUANT_KV_TOKENS")]
    kv_tokens: Option<u32>,
    /// The same bytes at any -np and after any interruption, on this machine with as many threads: one answer at a time,
    /// which takes two to four times as long
    #[arg(long, env = "TULU_QUANT_DETERMINISTIC")]
    deterministic: bool,
    /// Answer only every N-th record, from the I-th on; auto/N: I from Slurm's array or Kubernetes' job index; auto: N too.
    /// The window is the model's own unless -c is given, so that all shards have the same one
    #[arg(long, value_name = "I/N", env = "TULU_QUANT_SHARD")]
    shard: Option<String>,
    /// Replace OUT if it exists, also where it is finished
    #[arg(long, env = "TULU_QUANT_FORCE")]
    force: bool,
    /// Discard what an earlier run has finished, and begin again
    #[arg(long, env = "TULU_QUANT_RESTART")]
    restart: bool,
    /// Try the failed records of an earlier run again, mended or with another -c; what is answered stays
    #[arg(long, env = "TULU_QUANT_RETRY_ERRORS")]
    retry_errors: bool,
    /// Write the summary to stdout as JSON
    #[arg(long, env = "TULU_QUANT_JSON")]
    json: bool,
    /// Answers end before this text; may be given more than once; a record's own "stop" counts instead
    #[arg(long, value_name = "TEXT", env = "TULU_QUANT_STOP", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    stop: Vec<String>,
    /// Divide the logits of tokens that are in the prompt or the answer already [default: 1, which does nothing]
    #[arg(long, value_name = "X", conflicts_with = "repeat_penalty", env = "TULU_QUANT_REPETITION_PENALTY")]
    repetition_penalty: Option<f32>,
    /// Subtract from the logits of tokens that the answer has already, -2 to 2 [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true, env = "TULU_QUANT_PRESENCE_PENALTY")]
    presence_penalty: Option<f32>,
    /// The same for every time that the answer has them, -2 to 2 [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true, env = "TULU_QUANT_FREQUENCY_PENALTY")]
    frequency_penalty: Option<f32>,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    hub: HubArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Sub {
    Merge(merge::Args),
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<Exit, Failure> {
    match &args.command {
        Some(Sub::Merge(args)) => merge::run(args),
        None => Job::new(args)?.run(),
    }
}
