//! The arguments of `tulu-quant batch` and `tulu-quant batch merge`. `command.rs` validates them.

use super::merge::MergeArgs;
use crate::batch::Format;
use crate::options::{DraftArgs, EngineArgs, HubArgs, SamplingArgs, StructureArgs};
use std::ffi::OsString;
use std::path::PathBuf;

/// Run a file of requests offline; run the same command again to resume
///
/// FILE contains OpenAI batch lines, one JSON object each, for /v1/chat/completions (messages)
/// or /v1/completions (prompt):
///
///   {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions",
///    "body": {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 64}}
///
/// or AlpacaEval instructions, MT-Bench questions, or one prompt per line (--format; detected
/// if it is not given). OUT has the format that each format's own tools read, in the order of
/// FILE. A record that cannot be answered does not stop the run: its error has a code, a message
/// and the line, and the exit code is 1. With alpaca-eval and mt-bench, errors are written to
/// OUT.errors.
///
/// The body of an OpenAI record may set max_tokens (or max_completion_tokens), temperature,
/// top_p, seed, stop, n, logprobs, top_logprobs, presence_penalty, frequency_penalty, and also
/// top_k, min_p, repetition_penalty (over prompt and answer) and repeat_penalty (over the last
/// tokens). Parameters missing in a record come from the flags. Without either, decoding is
/// greedy and unlimited in length; with only a temperature, top_k is 0 and top_p is 1.
///
/// Finished records are kept in OUT.journal until all are answered. The same command resumes,
/// even if lines were appended to FILE or reordered. If an answered line, the model or a
/// setting changed, it stops with RESUME_MISMATCH. When OUT is finished, the same command
/// prints a note and exits with 0. OUT.manifest.json records the input, the model and the
/// settings of OUT.
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
    pub(super) command: Option<Subcommand>,
    /// A short name, Hub id, folder or .gguf file
    #[arg(required_unless_present = "list_devices", env = "TULU_QUANT_MODEL")]
    pub(super) model: Option<OsString>,
    /// Input file; - for stdin
    #[arg(short, long, required_unless_present = "list_devices", value_name = "FILE", env = "TULU_QUANT_INPUT")]
    pub(super) input: Option<PathBuf>,
    /// Output file; {shard} becomes 00001-of-00008. - writes to stdout; such a run cannot be resumed
    #[arg(short, long, required_unless_present = "list_devices", value_name = "OUT", env = "TULU_QUANT_OUTPUT")]
    pub(super) output: Option<PathBuf>,
    /// Format of input and output [default: detected from FILE]
    #[arg(long, value_enum, env = "TULU_QUANT_FORMAT")]
    pub(super) format: Option<Format>,
    /// Name of the model in the results [default: the name of the file]
    #[arg(long, value_name = "NAME", env = "TULU_QUANT_GENERATOR")]
    pub(super) generator: Option<String>,
    /// Completions per prompt when the record does not set n
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=128),
          env = "TULU_QUANT_NUM_CHOICES")]
    pub(super) num_choices: u32,
    /// Number of slots: sequences that generate in parallel (-np) [default: as many as memory allows, at most 32]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256), env = "TULU_QUANT_PARALLEL")]
    pub(super) parallel: Option<u32>,
    /// KV cache size in tokens, shared by all slots [default: -c times the number of slots, but at most one context plus half
    /// of the remaining free memory]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), env = "TULU_QUANT_KV_TOKENS")]
    pub(super) kv_tokens: Option<u32>,
    /// Write the same bytes for any -np and after resuming, on the same machine and thread count. Runs one sequence at a time
    /// and takes two to four times as long
    #[arg(long, env = "TULU_QUANT_DETERMINISTIC")]
    pub(super) deterministic: bool,
    /// Process only shard I of N: the records I, I+N, … auto/N reads I from Slurm or Kubernetes; auto reads N too (Slurm only).
    /// Without -c, the context size is the training context, so that all shards have the same
    #[arg(long, value_name = "I/N", env = "TULU_QUANT_SHARD")]
    pub(super) shard: Option<String>,
    /// Replace OUT if it exists, even if it is finished
    #[arg(long, env = "TULU_QUANT_FORCE")]
    pub(super) force: bool,
    /// Discard the finished records of an earlier run, and restart
    #[arg(long, env = "TULU_QUANT_RESTART")]
    pub(super) restart: bool,
    /// Retry only the failed records of an earlier run. Their lines may be fixed and -c may change; answered records are kept
    #[arg(long, env = "TULU_QUANT_RETRY_ERRORS")]
    pub(super) retry_errors: bool,
    /// Print the summary to stdout as JSON
    #[arg(long, env = "TULU_QUANT_JSON")]
    pub(super) json: bool,
    /// End answers before this text. Repeatable; a record's own "stop" replaces it
    #[arg(long, value_name = "TEXT", env = "TULU_QUANT_STOP", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(super) stop: Vec<String>,
    /// Repetition penalty for tokens in the prompt or the answer; 1 disables it [default: 1]
    #[arg(long, value_name = "X", conflicts_with = "repeat_penalty", env = "TULU_QUANT_REPETITION_PENALTY")]
    pub(super) repetition_penalty: Option<f32>,
    /// Subtract this from the logits of tokens that are in the answer already, -2 to 2 [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true, env = "TULU_QUANT_PRESENCE_PENALTY")]
    pub(super) presence_penalty: Option<f32>,
    /// Subtract this for each occurrence of the token in the answer, -2 to 2 [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true, env = "TULU_QUANT_FREQUENCY_PENALTY")]
    pub(super) frequency_penalty: Option<f32>,
    #[command(flatten)]
    pub(super) structure: StructureArgs,
    #[command(flatten)]
    pub(super) sampling: SamplingArgs,
    #[command(flatten)]
    pub(super) hub: HubArgs,
    #[command(flatten)]
    pub(super) drafts: DraftArgs,
    #[command(flatten)]
    pub(super) engine: EngineArgs,
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum Subcommand {
    Merge(MergeArgs),
}
