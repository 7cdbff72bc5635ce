//! Runs a file of requests offline. Data flow: `input` (records as bytes) → `format` and `formats/` (bytes ↔ `record`)
//! → `record_state` (the conversations of a record) → `runner` (keeps the decoder's slots busy) → `sink`: `journal` or
//! `stdout_sink` → `output_file` and `manifest`. For several machines: `shard` and `merge`. `identity` has everything
//! that the answers depend on. Flags and printing are in `commands/batch/`.

mod defaults;
mod digest;

mod finished_output;
mod format;
mod formats;
pub(crate) mod identity;
mod input;
mod journal;
mod json_array;
mod line_reader;
mod lock;
pub(crate) mod manifest;
mod merge;
mod options;
mod output_file;
mod output_framing;
pub(crate) mod paths;
mod record;
mod record_buffer;
mod record_key;
mod record_state;
mod runner;
mod shard;
mod sink;
mod stdout_sink;
mod workload;

pub(crate) use defaults::Defaults;
pub(crate) use finished_output::{check_unchanged, find_finished, output_exists};
pub(crate) use format::Format;
pub(crate) use input::{Framing, InputFile, check_encoding};
pub(crate) use journal::{Journal, Totals};
pub(crate) use manifest::Manifest;
pub(crate) use merge::ShardOutputs;
pub(crate) use options::RunOptions;
pub(crate) use output_file::WrittenOutput;
pub(crate) use record_key::InputIndex;
pub(crate) use runner::{RunObserver, RunStats, Runner};
pub(crate) use shard::Shard;
pub(crate) use sink::RecordSink;
pub(crate) use stdout_sink::StdoutSink;
pub(crate) use workload::estimate_workload;
