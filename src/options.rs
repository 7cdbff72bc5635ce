//! Option groups that several subcommands share. Each subcommand's `Args` flattens those that it needs; options of one
//! subcommand alone are in its own file.

use crate::decode::{DraftSource, Drafts};
use crate::engine::{
    Bos, CacheType, EngineSettings, FlashAttn, GpuLayers, GpuSettings, Model, N_CTX_MIN, Numa, Repack, Sampling,
    SplitMode, parse_bytes, random_seed, scored_cells,
};
use crate::error::{Code, Failure};
use crate::grammar;
use crate::model::FetchOptions;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// How to get models of the Hugging Face Hub; for every subcommand that takes a MODEL.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Hugging Face Hub")]
pub(crate) struct HubArgs {
    /// Do not ask before downloading (without a terminal, nothing is asked anyway)
    #[arg(short, long, env = "TULU_QUANT_YES")]
    pub(crate) yes: bool,
    /// Check the Hub for a newer revision; by default the cached GGUF file is used without a request
    #[arg(long, env = "TULU_QUANT_REFRESH")]
    pub(crate) refresh: bool,
    #[command(flatten)]
    pub(crate) fetch: FetchArgs,
}

impl HubArgs {
    /// Returns the options for `model/`.
    pub(crate) fn options(&self) -> FetchOptions {
        FetchOptions { yes: self.yes, refresh: self.refresh, ..self.fetch.options() }
    }
}

/// How to download a checkpoint; for those subcommands, and for `convert`, which never asks.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Hugging Face Hub")]
pub(crate) struct FetchArgs {
    /// Download over N connections at the same time
    #[arg(short = 'j', long, value_name = "N", default_value = "4", env = "TULU_QUANT_MAX_WORKERS")]
    pub(crate) max_workers: NonZeroUsize,
    /// Download the checkpoint into the Hugging Face cache first, then convert it; by default it is converted while it is
    /// downloaded, and not stored
    #[arg(long, env = "TULU_QUANT_KEEP_CHECKPOINT")]
    pub(crate) keep_checkpoint: bool,
}

impl FetchArgs {
    /// Returns the options for `model/`, without a question and without a refresh.
    pub(crate) fn options(&self) -> FetchOptions {
        FetchOptions {
            connections: self.max_workers,
            keep_checkpoint: self.keep_checkpoint,
            refresh: false,
            yes: false,
        }
    }
}

/// How the engine runs a model; for every subcommand that loads one.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Engine")]
pub(crate) struct EngineArgs {
    /// Set the context size in tokens per sequence; 0: the training context, reduced if it does not fit in memory
    #[arg(short, long, value_name = "N", default_value_t = 0, env = "TULU_QUANT_CTX_SIZE")]
    pub(crate) ctx_size: u32,
    /// Run on N threads [default: one per physical core; fewer for very small models]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=512), env = "TULU_QUANT_THREADS")]
    pub(crate) threads: Option<u32>,
    /// Use flash attention (-fa)
    #[arg(long, value_enum, default_value_t, env = "TULU_QUANT_FLASH_ATTN")]
    pub(crate) flash_attn: FlashAttn,
    /// Set the type of the keys in the KV cache (-ctk)
    #[arg(long, value_enum, value_name = "TYPE", default_value_t, env = "TULU_QUANT_CACHE_TYPE_K")]
    pub(crate) cache_type_k: CacheType,
    /// Set the type of the values in the KV cache (-ctv)
    #[arg(long, value_enum, value_name = "TYPE", default_value_t, env = "TULU_QUANT_CACHE_TYPE_V")]
    pub(crate) cache_type_v: CacheType,
    /// Read the model into memory instead of mapping the file
    #[arg(long, env = "TULU_QUANT_NO_MMAP")]
    pub(crate) no_mmap: bool,
    /// Lock the weights in memory, so that they are never swapped out
    #[arg(long, env = "TULU_QUANT_MLOCK")]
    pub(crate) mlock: bool,
    /// Set how threads are spread over NUMA nodes
    #[arg(long, value_enum, default_value_t, env = "TULU_QUANT_NUMA")]
    pub(crate) numa: Numa,
    /// Repack the weights into the layout of the CPU's kernels (llama.cpp's CPU_REPACK and AMX buffers)
    #[arg(long, value_enum, default_value_t, env = "TULU_QUANT_REPACK")]
    pub(crate) repack: Repack,
    /// Begin prompts with BOS: as the model's file says, always, or only where the chat template writes it
    #[arg(long, value_enum, default_value_t, env = "TULU_QUANT_BOS")]
    pub(crate) bos: Bos,
    #[command(flatten)]
    pub(crate) gpu: GpuArgs,
    /// Print the GPUs, with the memory that is free and, for a model that is on this machine, how many layers fit; then exit
    #[arg(long, help_heading = "GPU", env = "TULU_QUANT_LIST_DEVICES")]
    pub(crate) list_devices: bool,
}

impl EngineArgs {
    /// Validates the parsed flags.
    pub(crate) fn settings(&self) -> Result<EngineSettings, Failure> {
        let settings = EngineSettings {
            n_ctx: (self.ctx_size > 0).then_some(self.ctx_size),
            n_cells: None,
            n_needed: None,
            reserved: 0,
            n_kept: 0,
            n_threads: self.threads,
            gpu: self.gpu.settings()?,
            flash_attn: self.flash_attn,
            type_k: self.cache_type_k,
            type_v: self.cache_type_v,
            mmap: !self.no_mmap,
            mlock: self.mlock,
            numa: self.numa,
            repack: self.repack,
            bos: self.bos,
        };
        settings.check()
    }
}

/// What runs on GPUs, with llama.cpp's spellings; for every subcommand that loads a model. Without a GPU, nothing of it
/// matters.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "GPU")]
pub(crate) struct GpuArgs {
    /// Put N layers on the GPU, the output layer included: a number, all, or auto for as many as fit (-ngl). 0 uses no GPU
    #[arg(long, alias = "n-gpu-layers", value_name = "N|all|auto", default_value = "auto", allow_negative_numbers = true,
          value_parser = str::parse::<GpuLayers>, env = "TULU_QUANT_GPU_LAYERS")]
    gpu_layers: GpuLayers,
    /// Use these devices, separated by commas, such as CUDA0,CUDA1; none: run on the CPU (-dev). --list-devices shows them
    #[arg(long, value_name = "NAMES", value_delimiter = ',', env = "TULU_QUANT_DEVICE")]
    device: Vec<String>,
    /// Set how the model is split over several devices (-sm)
    #[arg(long, value_enum, default_value_t, env = "TULU_QUANT_SPLIT_MODE")]
    split_mode: SplitMode,
    /// Divide the layers in these proportions, such as 3,1 [default: by the free memory of each device] (-ts)
    #[arg(long, value_name = "SHARES", value_delimiter = ',', value_parser = share, env = "TULU_QUANT_TENSOR_SPLIT")]
    tensor_split: Vec<f32>,
    /// Use device N, counted from 0, with --split-mode none, or for intermediate results with row (-mg)
    #[arg(long, value_name = "N", default_value_t = 0, env = "TULU_QUANT_MAIN_GPU")]
    main_gpu: usize,
    /// Keep the KV cache in main memory (-nkvo)
    #[arg(long, env = "TULU_QUANT_NO_KV_OFFLOAD")]
    no_kv_offload: bool,
    /// Use at most SIZE of each device's memory, such as 6G, or one size for each device, separated by commas
    #[arg(long, value_name = "SIZE", value_delimiter = ',', value_parser = parse_bytes, env = "TULU_QUANT_DEVICE_MEMORY")]
    device_memory: Vec<u64>,
}

impl GpuArgs {
    /// Validates the parsed flags.
    fn settings(&self) -> Result<GpuSettings, Failure> {
        let none = self.device.iter().any(|name| name.eq_ignore_ascii_case("none"));
        if none && self.device.len() > 1 {
            let what = "--device has none beside other devices";
            return Err(Failure::input(Code::Gpu, what, "give none alone, or leave it out"));
        }
        if !self.tensor_split.is_empty() && self.tensor_split.iter().sum::<f32>() <= 0.0 {
            let what = "--tensor-split has no share above 0";
            return Err(Failure::input(Code::Gpu, what, "give shares such as 3,1"));
        }
        let devices = if none { Some(Vec::new()) } else { Some(self.device.clone()).filter(|names| !names.is_empty()) };
        Ok(GpuSettings {
            layers: self.gpu_layers,
            devices,
            split: self.split_mode,
            shares: self.tensor_split.clone(),
            main: self.main_gpu,
            kv_offload: !self.no_kv_offload,
            memory: self.device_memory.clone(),
            ..GpuSettings::default()
        })
    }
}

/// Parses a share of a device.
fn share(text: &str) -> Result<f32, &'static str> {
    let share = text.trim().parse::<f32>().ok().filter(|share| share.is_finite() && *share >= 0.0);
    share.ok_or("give numbers of 0 or more, such as 3,1")
}

/// The form of answers; for chat and batch.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Structured output")]
pub(crate) struct StructureArgs {
    /// Generate JSON that the JSON Schema in FILE allows
    #[arg(long, value_name = "FILE", conflicts_with = "grammar", env = "TULU_QUANT_JSON_SCHEMA")]
    pub(crate) json_schema: Option<PathBuf>,
    /// Generate text that the grammar in FILE allows (GBNF, llama.cpp's notation; its first rule is `root`)
    #[arg(long, value_name = "FILE", visible_alias = "grammar-file", env = "TULU_QUANT_GRAMMAR")]
    pub(crate) grammar: Option<PathBuf>,
}

impl StructureArgs {
    /// Whether a form is given.
    pub(crate) fn is_given(&self) -> bool {
        self.json_schema.is_some() || self.grammar.is_some()
    }

    /// Reads the file, and returns its grammar.
    pub(crate) fn grammar(&self) -> Result<Option<String>, Failure> {
        let read = |file: &Path| std::fs::read_to_string(file).map_err(|err| Failure::io(file, "cannot read", &err));
        if let Some(file) = &self.json_schema {
            let schema = serde_json::from_str(&read(file)?).map_err(|err| {
                Failure::input(Code::Grammar, format!("is not JSON: {err}"), "give a JSON Schema").at(file)
            })?;
            let compiled = grammar::compile(&schema).map_err(|why| {
                Failure::input(Code::Grammar, format!("the schema cannot be compiled: {why}"), "change the schema")
                    .at(file)
            })?;
            return Ok(Some(compiled));
        }
        let Some(file) = &self.grammar else { return Ok(None) };
        let text = read(file)?;
        grammar::check(&text).map_err(|why| Failure::input(Code::Grammar, why, "correct the grammar").at(file))?;
        Ok(Some(text))
    }
}

/// How a text is computed, for `eval` and `imatrix`. The defaults are those of llama-perplexity and llama-imatrix.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Engine")]
pub(crate) struct ScoringArgs {
    /// Set the size of a chunk in tokens
    #[arg(short, long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(8..=(1 << 20)),
          env = "TULU_QUANT_CTX_SIZE")]
    ctx_size: u32,
    /// Compute only the first N chunks
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), env = "TULU_QUANT_CHUNKS")]
    chunks: Option<u32>,
    /// Run on N threads [default: one per physical core; fewer for very small models]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=512), env = "TULU_QUANT_THREADS")]
    threads: Option<u32>,
    /// Use flash attention (-fa)
    #[arg(long, value_enum, default_value_t, env = "TULU_QUANT_FLASH_ATTN")]
    flash_attn: FlashAttn,
    /// Set the type of the keys in the KV cache (-ctk)
    #[arg(long, value_enum, value_name = "TYPE", default_value_t, env = "TULU_QUANT_CACHE_TYPE_K")]
    cache_type_k: CacheType,
    /// Set the type of the values in the KV cache (-ctv)
    #[arg(long, value_enum, value_name = "TYPE", default_value_t, env = "TULU_QUANT_CACHE_TYPE_V")]
    cache_type_v: CacheType,
    /// Read the model into memory instead of mapping the file
    #[arg(long, env = "TULU_QUANT_NO_MMAP")]
    no_mmap: bool,
    #[command(flatten)]
    gpu: GpuArgs,
}

impl ScoringArgs {
    /// Returns the tokens of a chunk.
    pub(crate) fn n_ctx(&self) -> usize {
        self.ctx_size as usize
    }

    /// Returns the number of threads that the user gave.
    pub(crate) fn threads(&self) -> Option<u32> {
        self.threads
    }

    /// Returns the largest number of chunks.
    pub(crate) fn chunks(&self) -> Option<usize> {
        self.chunks.map(|n| n as usize)
    }

    /// Validates the parsed flags. Weights are repacked, as in llama.cpp's tools, so that the numbers are theirs.
    pub(crate) fn settings(&self) -> Result<EngineSettings, Failure> {
        let settings = EngineSettings {
            n_ctx: Some(self.ctx_size.max(N_CTX_MIN)),
            n_cells: Some(scored_cells(self.ctx_size)),
            n_threads: self.threads,
            gpu: self.gpu.settings()?,
            flash_attn: self.flash_attn,
            type_k: self.cache_type_k,
            type_v: self.cache_type_v,
            mmap: !self.no_mmap,
            repack: Repack::On,
            ..EngineSettings::default()
        };
        settings.check()
    }
}

/// Guesses of the next tokens; for every subcommand that generates text.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Drafts")]
pub(crate) struct DraftArgs {
    /// Compute one token at a time. By default, tokens that followed the same text before are guessed, and several are checked
    /// at once where this is faster; the answer is the same
    #[arg(long, env = "TULU_QUANT_NO_DRAFT")]
    pub(crate) no_draft: bool,
    /// Guess with this smaller model, too, which must have the same vocabulary (-md)
    #[arg(long, alias = "model-draft", value_name = "MODEL", conflicts_with = "no_draft", env = "TULU_QUANT_DRAFT")]
    pub(crate) draft: Option<OsString>,
    /// Guess N tokens in every pass, even where it is slower [default: as many as are expected to be faster]
    #[arg(long, alias = "draft-max", value_name = "N", conflicts_with = "no_draft", env = "TULU_QUANT_DRAFT_N",
          value_parser = clap::value_parser!(u8).range(1..=31))]
    pub(crate) draft_n: Option<u8>,
}

impl DraftArgs {
    /// Returns where guesses come from. `second`: the loaded model of `--draft`.
    pub(crate) fn drafts<'m>(&self, second: Option<&'m Model>) -> Drafts<'m> {
        let source = match second {
            _ if self.no_draft => DraftSource::Off,
            Some(model) => DraftSource::SecondModel(model),
            None => DraftSource::Lookup,
        };
        Drafts { source, n_tokens: self.draft_n.map(usize::from) }
    }
}

/// How tokens are sampled. Flags that are absent keep the subcommand's default.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct SamplingArgs {
    /// Set the sampling temperature; 0 is greedy [default: 0.7 in chat, 0 in batch]
    #[arg(long, alias = "temperature", value_name = "T", env = "TULU_QUANT_TEMP")]
    pub(crate) temp: Option<f32>,
    /// Sample from the K most likely tokens; 0: from all [default: 50 in chat, 0 in batch]
    #[arg(long, value_name = "K", env = "TULU_QUANT_TOP_K")]
    pub(crate) top_k: Option<u32>,
    /// Sample from the smallest set of tokens whose probabilities add up to P [default: 0.95 in chat, 1 in batch]
    #[arg(long, value_name = "P", env = "TULU_QUANT_TOP_P")]
    pub(crate) top_p: Option<f32>,
    /// Drop tokens less likely than P times the most likely one [default: 0]
    #[arg(long, value_name = "P", env = "TULU_QUANT_MIN_P")]
    pub(crate) min_p: Option<f32>,
    /// Penalize recent tokens: divide positive logits by X, multiply negative ones [default: 1, which does nothing]
    #[arg(long, value_name = "X", env = "TULU_QUANT_REPEAT_PENALTY")]
    pub(crate) repeat_penalty: Option<f32>,
    /// Apply the repeat penalty to the last N tokens [default: 64]
    #[arg(long, value_name = "N", env = "TULU_QUANT_REPEAT_LAST_N")]
    pub(crate) repeat_last_n: Option<u32>,
    /// Set the random seed; -1 picks a new one for each run [default: -1 in chat, 0 in batch]
    #[arg(short, long, value_name = "N", env = "TULU_QUANT_SEED",
          value_parser = clap::value_parser!(i64).range(-1..i64::from(u32::MAX)))]
    pub(crate) seed: Option<i64>,
    /// Generate at most N tokens; -1: until the context is full [default: 256 in chat; -1 in batch, 1024 for mt-bench]
    #[arg(short = 'n', long, aliases = ["n-predict", "num-predict", "max-tokens"], value_name = "N", env = "TULU_QUANT_PREDICT",
          value_parser = clap::value_parser!(i64).range(-1..=i64::from(u32::MAX)))]
    pub(crate) predict: Option<i64>,
}

impl SamplingArgs {
    /// Validates the parsed flags. `default` has the values of flags that are absent.
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

    /// Returns the maximum number of tokens to generate; `u32::MAX`: until the context is full.
    pub(crate) fn max_tokens(&self, default: u32) -> Result<u32, Failure> {
        match self.predict {
            None => Ok(default),
            Some(0) => Err(Failure::input(Code::Predict, "-n 0 asks for no tokens", "give -n 1 or more, or -1")),
            Some(n) => Ok(u32::try_from(n).unwrap_or(u32::MAX)),
        }
    }
}

/// Parses a size as llama-gguf-split does: a whole number of megabytes (M) or gigabytes (G), in powers of ten; a number
/// alone is in bytes, as for llama.cpp's converter.
pub(crate) fn byte_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let (number, unit) = match text.strip_suffix(['K', 'k', 'M', 'm', 'G', 'g']) {
        Some(number) => (number, text.as_bytes()[number.len()].to_ascii_uppercase()),
        None => (text, b' '),
    };
    let factor = match unit {
        b'K' => 1_000,
        b'M' => 1_000_000,
        b'G' => 1_000_000_000,
        _ => 1,
    };
    let size = number.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).filter(|n| *n > 0);
    size.ok_or_else(|| format!("'{text}' is not a size such as 40G or 500M"))
}
