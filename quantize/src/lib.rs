//! Converts Hugging Face LLaMA checkpoints (Tulu 2 and 2.5) to quantized GGUF files in one pass, and verifies them.
//!
//! ```text
//! Checkpoint::open ─► Plan::new ─► convert()      reads each tensor once, writes all types at once
//!  checkpoint/         plan/        convert/
//! ```
//!
//! A conversion needs a few MiB of memory for each thread; this does not depend on the size of the model. There is no
//! command line, no progress bar and no network code here: the caller receives progress through an [`Observer`] and
//! fetches remote weights through a [`RangeSource`].
//!
//! | module | contents |
//! |---|---|
//! | `checkpoint/` | reads a checkpoint folder: config, tokenizer, safetensors and `.bin` files |
//! | `gguf/`, `gguf_source` | the GGUF container; a GGUF file as input |
//! | `gguf_metadata`, `gguf_naming` | metadata and names of outputs |
//! | `imatrix`, `imatrix_dat`, `imatrix_sums` | importance matrices: reading, adding and writing |
//! | `llama_tensors`, `rope_factors`, `plan/`, `quantize_options` | names, types and offsets of all output tensors |
//! | `size_estimate` | the size of an output, estimated from config.json |
//! | `convert/`, `kernels/`, `worker_pool` | the conversion, on several threads |
//! | `streaming/` | the conversion of weights that are still on a server |
//! | `verify/` | checks of GGUF files and checkpoint folders |
//! | `byte_source`, `files`, `wrong_file`, `atomic_file`, `output`, `space`, `platform/` | files |
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
mod imatrix_dat;
mod imatrix_sums;
mod integers;
pub mod kernels;
mod llama_tensors;
mod observer;
mod output;
mod plan;
pub mod platform;
mod quantize_options;
mod rope_factors;
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
pub use imatrix_sums::{ImatrixSums, Sums};
pub use llama_ext::{Ftype, GgmlType};
pub use llama_tensors::ComputedTensor;
pub use observer::{Observer, Silent};
pub use output::part_of;
pub use plan::{OutputPlan, Plan, PlannedTensor};
pub use quantize_options::QuantizeOptions;
pub use sha256::sha256_of;
pub use streaming::{
    RangeSource, RemoteCheckpoint, RemoteFile, StreamOptions, can_stream, convert_streaming, stream_memory,
};
pub use verify::{Check, Distance, FileCheck, Reference, Verdict, table_problems, verify, verify_checkpoint};
