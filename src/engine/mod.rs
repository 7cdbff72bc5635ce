//! The engine: one model, one context, one sampler. Only this folder uses `llama-cpp-2`. llama.cpp aborts the process
//! if a precondition is violated, so this folder checks every precondition first. Not here: scheduling (`decode/`) and
//! conversations (`chat/`, `batch/`).

mod backend;
mod backend_files;
mod context;
mod devices;
mod distribution;
mod forecast;
mod gguf_preflight;
mod gpu_settings;
mod grammar;
mod inner_context;
mod kv_snapshot;
mod load;
mod memory_plan;
mod model;
mod model_dims;
mod offload_plan;
mod penalties;
mod repack;
mod sampler;
mod sampling;
mod scoring;
mod settings;
mod tensor_sizes;
mod threads;
mod vocab;
mod vocab_preflight;

pub(crate) use backend_files::{BackendFile, backend_files};
pub(crate) use context::Context;
pub(crate) use devices::{Usable, gpus, no_gpu, shown as shown_device, usable as usable_devices};
pub(crate) use distribution::Distribution;
pub(crate) use forecast::Forecast;
pub(crate) use gpu_settings::{GpuLayers, GpuSettings, SplitMode, parse_bytes};
pub(crate) use grammar::{Grammar, GrammarTokens};
pub(crate) use llama_cpp_2::token::LlamaToken as Token;
pub(crate) use model::{Model, OnDevice, VocabFile, memory_forecast};
pub(crate) use model_dims::ModelDims;
pub(crate) use sampler::Sampler;
pub(crate) use sampling::{SAMPLING_VERSION, Sampling, random_seed};
pub(crate) use scoring::{ScoringContext, Sequence, scored_cells, scored_together};
pub(crate) use settings::{
    CacheType, EngineSettings, FlashAttn, N_BATCH, N_CTX_MIN, N_SLOTS_MAX, N_UBATCH, Numa, Repack,
};
pub(crate) use tensor_sizes::TensorSizes;
pub(crate) use vocab::{Bos, Spaces, Vocab};
