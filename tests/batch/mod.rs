//! `batch`: formats, records, resuming, shards, scheduling.

mod copies;
mod decode;
mod drafts;
mod formats;
mod records;
mod rerun;
mod resume;
mod shards;
mod terminal;
