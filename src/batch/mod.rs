//! Offline completion of a file of records: `lines` (the input, streamed), `openai` (records in), `reply`
//! (records out), `journal` over `files` (what is finished, and the output at the end), `fingerprint` (to know a model
//! again), `run` (records through the slots of the decoder). Flags and printing are in `commands/batch.rs`.

mod files;
mod fingerprint;
mod journal;
mod lines;
mod openai;
mod reply;
mod run;

pub(crate) use fingerprint::fingerprint;
pub(crate) use journal::Journal;
pub(crate) use lines::{Contents, Lines};
pub(crate) use run::{Defaults, Run, Tally, Watch};
