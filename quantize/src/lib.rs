//! Hugging Face LLaMA checkpoints (the Tulu 2 and 2.5 models) to quantized GGUF files, in one pass.
//!
//! ```text
//! Checkpoint::open ─► Plan::new ─► convert()          one read of every tensor, all types written at once
//!  checkpoint/         plan.rs       convert.rs
//! ```
//!
//! Memory does not depend on the model: rows are read, quantized and written in chunks of a few MiB a thread, at offsets
//! the plan knows before the first byte is read. There is no command line, no progress bar and no network here; progress
//! goes out through [`Observer`]. Weights that are not on this disk come in through [`Supply`] (`arrive/`).
#![forbid(unsafe_code)]

mod arrive;
mod carried;
pub mod checkpoint;
mod convert;
mod error;
pub mod forecast;
pub mod gguf;
mod hashes;
mod imatrix;
pub mod kernels;
mod medium;
mod metadata;
mod names;
mod naming;
mod observer;
mod output;
mod plan;
mod pool;
mod positioned;
mod range;
mod recipe;
mod rows;
mod space;
mod sums;
mod verify;
mod weights;
mod wrong_file;

pub use arrive::{Arrival, Distant, DistantFile, Supply, arrive, can_arrive, memory_held};
pub use checkpoint::{Checkpoint, Weights};
pub use convert::{Options, Report, convert, memory_needed};
pub use error::{Class, Code, Error, Result};
pub use imatrix::Imatrix;
pub use llama_ext::{Ftype, GgmlType};
pub use medium::Medium;
pub use naming::Naming;
pub use observer::{Observer, Silent};
pub use output::part_of;
pub use plan::{OutputPlan, Plan, PlannedTensor};
pub use recipe::Recipe;
pub use verify::{Check, Distance, FileCheck, Reference, Verdict, table_problems, verify, verify_checkpoint};
