//! Offline completion of a file of records, one way through: `input` over `lines` and `array` (records as bytes) → `format`
//! (`openai`, `alpaca`, `mt_bench`, `text`: bytes ↔ `record`) → `task` (a record's conversations) → `run` (through the slots
//! of the decoder) → `journal` over `files` (what is finished) → `output` or `stream` (in order, in a `frame`) and `manifest`
//! (what it was made of). Beside them `shard` and `merge` (several machines) and `fingerprint` (to know a model again). Flags
//! and printing are in `commands/batch`.

mod array;
pub(crate) mod files;
mod format;
mod formats;
mod frame;
pub(crate) mod identity;
mod input;
mod journal;
mod lines;
pub(crate) mod manifest;
mod merge;
mod output;
mod record;
mod run;
mod shard;
mod stream;
mod survey;
mod task;

pub(crate) use format::Format;
pub(crate) use input::{Contents, Shape, Source, sha256_of, utf8};
pub(crate) use journal::{Journal, Sums};
pub(crate) use manifest::Manifest;
pub(crate) use merge::Parts;
pub(crate) use output::{Results, Written};
pub(crate) use run::{Defaults, Run, Tally, Watch};
pub(crate) use shard::Shard;
pub(crate) use stream::Stream;
pub(crate) use survey::survey;
