//! `batch`: records in, answers out, killed and resumed, shared between machines.

mod decode;
mod formats;
mod records;
mod rerun;
mod resume;
mod shards;
mod terminal;
