//! The engine: one model, one context, one sampler, over `llama-cpp-2`; the only room of the program that names that
//! crate. llama.cpp aborts the process on misuse, so every precondition is checked here, in Rust, first.
//! What to decode and when is `decode/`; what a conversation is, `chat/` and `batch/`.

mod available;
mod cgroup;
mod context;
mod cores;
mod devices;
mod header;
mod layout;
mod memory;
mod model;
mod penalties;
mod sampler;
mod settings;
mod state;
mod threads;
mod vocab;

pub(crate) use context::Context;
pub(crate) use devices::gpus;
pub(crate) use llama_cpp_2::token::LlamaToken as Token;
pub(crate) use memory::Shape;
pub(crate) use model::{Model, VocabFile};
pub(crate) use sampler::{SAMPLING_VERSION, Sampler, Sampling, random_seed};
pub(crate) use settings::{CacheType, FlashAttn, N_BATCH, N_CTX_MIN, N_UBATCH, Numa, Repack, Settings};
pub(crate) use threads::spin_briefly;
pub(crate) use vocab::{Spaces, Vocab};
