//! Hugging Face LLaMA checkpoints (the Tulu 2 and 2.5 models) to quantized GGUF files, in one pass.
//!
//! ```text
//! Checkpoint::open ─► Plan::new ─► convert()          one read of every tensor, all types written at once
//!  checkpoint/         plan.rs       convert.rs
//! ```
//!
//! Memory does not depend on the model: rows are read, quantized and written in chunks of a few MiB a thread, at offsets
//! the plan knows before the first byte is read. There is no command line, no progress bar and no network here; progress
//! goes out through [`Observer`]. Weights that are not on this disk come in through [`RangeSource`] (`streaming/`).
#![forbid(unsafe_code)]

pub mod atomic_file;
mod byte_source;
pub mod checkpoint;
mod convert;
mod error;
mod files;
pub mod gguf;
mod gguf_metadata;
mod gguf_naming;
mod gguf_source;
mod hex;
mod imatrix;
mod integers;
pub mod kernels;
mod llama_tensors;
mod observer;
mod output;
mod plan;
pub mod platform;
mod quantize_options;
mod sha256;
pub mod size_estimate;
mod space;
mod streaming;
mod verify;
mod worker_pool;
mod wrong_file;

pub use byte_source::ByteSource;
pub use checkpoint::{Checkpoint, WeightFiles};
pub use convert::{ConvertOptions, Report, convert, memory_needed};
pub use error::{Class, Code, Error, Result};
pub use gguf_naming::Naming;
pub use hex::hex;
pub use imatrix::Imatrix;
pub use llama_ext::{Ftype, GgmlType};
pub use observer::{Observer, Silent};
pub use output::part_of;
pub use plan::{OutputPlan, Plan, PlannedTensor};
pub use quantize_options::QuantizeOptions;
pub use sha256::sha256_of;
pub use streaming::{
    RangeSource, RemoteCheckpoint, RemoteFile, StreamOptions, can_stream, convert_streaming, stream_memory,
};
pub use verify::{Check, Distance, FileCheck, Reference, Verdict, table_problems, verify, verify_checkpoint};
