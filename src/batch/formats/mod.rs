//! The input and output formats, one file each: `parse` parses a record, `output_record` returns its result. Detection
//! and dispatch are in `format.rs`; helpers of several formats are in `fields.rs`.

pub(super) mod alpaca_eval;
mod fields;
pub(super) mod mt_bench;
pub(super) mod openai;
pub(super) mod text;
