//! The option groups that several subcommands share: declared once, flattened into each subcommand's `Args`.

use crate::engine::{CacheType, FlashAttn, Numa, Repack, Sampling, Settings, random_seed};
use crate::error::{Code, Failure};
use crate::model::FetchOptions;
use std::num::NonZeroUsize;

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

impl HubArgs {
    /// The parsed flags as the model code takes them.
    pub(crate) fn options(&self) -> FetchOptions {
        FetchOptions { yes: self.yes, refresh: self.refresh, ..self.fetch.options() }
    }
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

impl FetchArgs {
    /// The parsed flags as the model code takes them: never asks, never refreshes.
    pub(crate) fn options(&self) -> FetchOptions {
        FetchOptions {
            connections: self.max_workers,
            keep_checkpoint: self.keep_checkpoint,
            refresh: false,
            yes: false,
        }
    }
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
