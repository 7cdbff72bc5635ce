//! The verbs, and the option groups that several verbs share (declared once, flattened into each verb's `Args`).
//! What a verb does is in `commands/`; nothing here opens a file.

mod neighbours;
#[cfg(test)]
mod tests;
mod usage;
mod variables;

use crate::engine::{CacheType, FlashAttn, Numa, Repack, Sampling, Settings, random_seed};
use crate::error::{Code, ErrorFormat, Failure};
use clap::builder::{BoolishValueParser, Resettable};
use clap::{Arg, ArgAction, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use std::ffi::OsString;
use std::num::NonZeroUsize;
use usage::Refused;
use variables::Variables;

/// What was built, and on which llama.cpp.
const LONG_VERSION: &str =
    concat!(env!("CARGO_PKG_VERSION"), " (", env!("TULU_QUANT_REVISION"), ")\n", env!("TULU_QUANT_PIN"));

/// What a variable may say to leave a switch off, besides nothing at all.
const OFF: [&str; 6] = ["0", "no", "n", "false", "f", "off"];

/// What the help of every verb says once instead of for each flag.
const TWINS: &str = "Each flag can be set by an environment variable too: TULU_QUANT_ and its name, such as TULU_QUANT_CTX_SIZE for \
                     --ctx-size. A switch takes 1 or 0 there.";

/// The best way to run AllenAI's Tulu models on one's own machine: convert, chat, batch.
#[derive(Debug, Parser)]
#[command(name = "tulu-quant", version, long_version = LONG_VERSION, about, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// How an error is written on the last line of stderr
    #[arg(long, global = true, value_enum, default_value_t, help_heading = "Global", env = "TULU_QUANT_ERROR_FORMAT")]
    pub(crate) error_format: ErrorFormat,
    /// No colours on the terminal, as with NO_COLOR
    #[arg(long, global = true, help_heading = "Global", env = "TULU_QUANT_NO_COLOR")]
    pub(crate) no_color: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// One variant a verb; the fields are in the verb's own file.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Chat(crate::commands::chat::Args),
    Convert(crate::commands::convert::Args),
    Batch(crate::commands::batch::Args),
    Prompt(crate::commands::prompt::Args),
    Inspect(crate::commands::inspect::Args),
    Verify(crate::commands::verify::Args),
    Bench(crate::commands::bench::Args),
    Models(crate::commands::models::Args),
    Pull(crate::commands::pull::Args),
    Doctor(crate::commands::doctor::Args),
    Completions(crate::commands::completions::Args),
    Man(crate::commands::man::Args),
    /// Print what was built, as --version does
    #[command(hide = true)]
    Version,
}

/// How models are fetched from the Hugging Face Hub; for every verb that takes their names.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Fetching")]
pub(crate) struct HubArgs {
    /// Fetch without asking first; without a terminal nothing is asked anyway
    #[arg(short, long, env = "TULU_QUANT_YES")]
    pub(crate) yes: bool,
    /// Ask the Hub whether the model has changed; otherwise what was made once is used without asking
    #[arg(long, env = "TULU_QUANT_REFRESH")]
    pub(crate) refresh: bool,
    #[command(flatten)]
    pub(crate) fetch: FetchArgs,
}

/// How a checkpoint is fetched; for those verbs, and for `convert`, which never asks.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Hub")]
pub(crate) struct FetchArgs {
    /// Connections at the same time
    #[arg(short = 'j', long, value_name = "N", default_value = "4", env = "TULU_QUANT_MAX_WORKERS")]
    pub(crate) max_workers: NonZeroUsize,
    /// Keep the checkpoint in the shared cache and convert it from there, instead of converting it as it arrives
    #[arg(long, env = "TULU_QUANT_KEEP_CHECKPOINT")]
    pub(crate) keep_checkpoint: bool,
}

/// How the engine runs a model; for every verb that loads one.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Engine")]
pub(crate) struct EngineArgs {
    /// Window of one conversation in tokens; 0: what the model was trained for, cut to what fits in memory
    #[arg(short, long, value_name = "N", default_value_t = 0, env = "TULU_QUANT_CTX_SIZE")]
    pub(crate) ctx_size: u32,
    /// Threads [default: one for each physical core; fewer for a model too small to share out]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=512), env = "TULU_QUANT_THREADS")]
    pub(crate) threads: Option<u32>,
    /// Layers kept on the GPU (-ngl); needs a build with cuda, metal or vulkan
    #[arg(long, alias = "n-gpu-layers", value_name = "N", default_value_t = 0, env = "TULU_QUANT_GPU_LAYERS")]
    pub(crate) gpu_layers: u32,
    /// Flash attention (-fa)
    #[arg(long, value_enum, default_value_t, env = "TULU_QUANT_FLASH_ATTN")]
    pub(crate) flash_attn: FlashAttn,
    /// Type of the keys in the KV cache (-ctk)
    #[arg(long, value_enum, value_name = "TYPE", default_value_t, env = "TULU_QUANT_CACHE_TYPE_K")]
    pub(crate) cache_type_k: CacheType,
    /// Type of the values in the KV cache (-ctv)
    #[arg(long, value_enum, value_name = "TYPE", default_value_t, env = "TULU_QUANT_CACHE_TYPE_V")]
    pub(crate) cache_type_v: CacheType,
    /// Read the model into memory instead of mapping the file
    #[arg(long, env = "TULU_QUANT_NO_MMAP")]
    pub(crate) no_mmap: bool,
    /// Keep the weights in memory, so that they are never swapped out
    #[arg(long, env = "TULU_QUANT_MLOCK")]
    pub(crate) mlock: bool,
    /// How threads are spread over the sockets of a machine with several
    #[arg(long, value_enum, default_value_t, env = "TULU_QUANT_NUMA")]
    pub(crate) numa: Numa,
    /// Rearrange the weights for the CPU's kernels
    #[arg(long, value_enum, default_value_t, env = "TULU_QUANT_REPACK")]
    pub(crate) repack: Repack,
}

impl EngineArgs {
    /// As typed → checked.
    pub(crate) fn settings(&self) -> Result<Settings, Failure> {
        let settings = Settings {
            n_ctx: (self.ctx_size > 0).then_some(self.ctx_size),
            n_cells: None,
            n_needed: None,
            n_threads: self.threads,
            n_gpu_layers: self.gpu_layers,
            flash_attn: self.flash_attn,
            type_k: self.cache_type_k,
            type_v: self.cache_type_v,
            mmap: !self.no_mmap,
            mlock: self.mlock,
            numa: self.numa,
            repack: self.repack,
        };
        settings.check()
    }
}

/// How answers are sampled; for every verb that makes some. What is not given is the verb's own default.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct SamplingArgs {
    /// Temperature; 0 takes the likeliest token always [default: 0.7 in chat, 0 in batch]
    #[arg(long, alias = "temperature", value_name = "T", env = "TULU_QUANT_TEMP")]
    pub(crate) temp: Option<f32>,
    /// Choose among the K likeliest tokens; 0: all [default: 50 in chat, 0 in batch]
    #[arg(long, value_name = "K", env = "TULU_QUANT_TOP_K")]
    pub(crate) top_k: Option<u32>,
    /// Choose among the likeliest tokens that hold this probability together [default: 0.95 in chat, 1 in batch]
    #[arg(long, value_name = "P", env = "TULU_QUANT_TOP_P")]
    pub(crate) top_p: Option<f32>,
    /// Choose among tokens at least this likely in relation to the likeliest [default: 0]
    #[arg(long, value_name = "P", env = "TULU_QUANT_MIN_P")]
    pub(crate) min_p: Option<f32>,
    /// Divide the logits of tokens seen lately [default: 1, which does nothing]
    #[arg(long, value_name = "X", env = "TULU_QUANT_REPEAT_PENALTY")]
    pub(crate) repeat_penalty: Option<f32>,
    /// How many of the last tokens count as seen lately [default: 64]
    #[arg(long, value_name = "N", env = "TULU_QUANT_REPEAT_LAST_N")]
    pub(crate) repeat_last_n: Option<u32>,
    /// Random seed; -1: another one each time [default: -1 in chat, 0 in batch]
    #[arg(short, long, value_name = "N", env = "TULU_QUANT_SEED",
          value_parser = clap::value_parser!(i64).range(-1..i64::from(u32::MAX)))]
    pub(crate) seed: Option<i64>,
    /// Tokens of an answer at most; -1: until the window is full [default: 256 in chat, -1 in batch]
    #[arg(short = 'n', long, aliases = ["n-predict", "num-predict", "max-tokens"], value_name = "N", env = "TULU_QUANT_PREDICT",
          value_parser = clap::value_parser!(i64).range(-1..=i64::from(u32::MAX)))]
    pub(crate) predict: Option<i64>,
}

impl SamplingArgs {
    /// As typed → checked, with the verb's own `default` for what was not given.
    pub(crate) fn sampling(&self, default: Sampling) -> Result<Sampling, Failure> {
        let seed = match self.seed {
            None => default.seed,
            Some(seed) => u32::try_from(seed).unwrap_or_else(|_| random_seed()),
        };
        let sampling = Sampling {
            temperature: self.temp.unwrap_or(default.temperature),
            top_k: self.top_k.unwrap_or(default.top_k),
            top_p: self.top_p.unwrap_or(default.top_p),
            min_p: self.min_p.unwrap_or(default.min_p),
            repeat_penalty: self.repeat_penalty.unwrap_or(default.repeat_penalty),
            repeat_last_n: self.repeat_last_n.unwrap_or(default.repeat_last_n),
            seed,
            ..default
        };
        sampling.check()
    }

    /// Tokens of an answer at most; `u32::MAX` when only the window ends it.
    pub(crate) fn max_tokens(&self, default: u32) -> Result<u32, Failure> {
        match self.predict {
            None => Ok(default),
            Some(0) => {
                Err(Failure::input(Code::Predict, "an answer of 0 tokens was asked for", "give -n 1 or more, or -1"))
            }
            Some(n) => Ok(u32::try_from(n).unwrap_or(u32::MAX)),
        }
    }
}

/// The command line with what holds for every flag of every verb; the environment counts where `environment` says so.
pub(crate) fn command(environment: bool) -> clap::Command {
    shaped(Cli::command(), environment)
}

fn shaped(command: clap::Command, environment: bool) -> clap::Command {
    // The verbs' own definitions say only what differs from verb to verb.
    let command = command
        .mut_args(|arg| flag(arg, environment))
        .mut_subcommands(|verb| if verb.is_hide_set() { verb } else { shaped(verb, environment) });
    let examples = command.get_after_help().map(|text| format!("{text}\n\n")).unwrap_or_default();
    command.after_help(format!("{examples}{TWINS}"))
}

/// One flag: its environment twin, and negative numbers, which are values and no flags.
fn flag(arg: Arg, environment: bool) -> Arg {
    let switch = matches!(arg.get_action(), ArgAction::SetTrue);
    let name = arg.get_env().map(ToOwned::to_owned);
    let arg = if switch {
        arg.value_parser(BoolishValueParser::new())
    } else if arg.is_positional() || arg.is_allow_hyphen_values_set() {
        arg
    } else {
        arg.allow_negative_numbers(true)
    };
    let Some(name) = name else { return arg };
    let twin = arg.get_long().map(|long| format!("TULU_QUANT_{}", long.replace('-', "_").to_uppercase()));
    let arg = arg.hide_env(twin.is_some_and(|twin| *twin == *name));
    // A variable that is empty is not set; a switch that is set to no is not switched on.
    let off = |value: &OsString| value.to_str().is_some_and(|text| OFF.contains(&text.to_lowercase().as_str()));
    match std::env::var_os(&name) {
        Some(value) if !environment || value.is_empty() || switch && off(&value) => arg.env(Resettable::Reset),
        _ => arg,
    }
}

/// What was asked for.
pub(crate) struct Line {
    pub(crate) command: Command,
    pub(crate) error_format: ErrorFormat,
    /// What the environment set.
    pub(crate) variables: Variables,
}

/// The line of this process → the verb and its arguments.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Line, Refused> {
    let args: Vec<OsString> = args.into_iter().collect();
    let whole = command(true);
    let line = neighbours::normalise(args.clone(), &whole)
        .map_err(|failure| Refused::Before(Box::new(failure), usage::wanted(&args)))?;
    let parsed = whole.clone().try_get_matches_from(&line);
    let parsed = parsed.and_then(|found| Cli::from_arg_matches(&found).map(|cli| (cli, found)));
    let (cli, found) = parsed.map_err(|err| {
        let own = command(false).try_get_matches_from(&line).err();
        Refused::new(err, &line, &whole, own.as_ref())
    })?;
    crate::defect::format(cli.error_format);
    if cli.no_color {
        console::set_colors_enabled(false);
        console::set_colors_enabled_stderr(false);
    }
    Ok(Line { command: cli.command, error_format: cli.error_format, variables: Variables::of(&found, &whole) })
}
