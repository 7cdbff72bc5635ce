//! Importance matrices, as llama-imatrix makes them: how much each input column of each matrix matters. `collect` sums the
//! squared activations of a model on a text, `unfinished` keeps the sums of a run that is stopped, `statistics` describes a
//! matrix. Files are read and written by `quantize/src/imatrix_sums.rs`.

mod collect;
mod statistics;
mod unfinished;

pub(crate) use collect::{Collection, collect};
pub(crate) use statistics::{json, table};
pub(crate) use unfinished::Unfinished;
