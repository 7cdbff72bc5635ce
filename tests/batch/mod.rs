//! `batch`: records in, answers out, killed and resumed, shared between machines.

mod again;
mod answers;
mod decode;
mod formats;
mod resume;
mod shards;
mod terminal;
