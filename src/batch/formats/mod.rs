//! The input and output formats, one file each: `parse` reads a record, `output_record` writes its result. Which format a file has,
//! and which function is called for it, is in `format.rs`; what several formats need is in `fields.rs`.

pub(super) mod alpaca_eval;
mod fields;
pub(super) mod mt_bench;
pub(super) mod openai;
pub(super) mod text;
