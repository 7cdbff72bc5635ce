//! Benchmarks in the shape of llama-bench: `measure` runs the tests, `answer` measures real answers and drafts, `report`
//! formats the results as its table and JSON, `bandwidth` measures how fast memory can be read (the peak of the CPU's
//! arithmetic is measured in `vendor/`). Flags and printing are in `commands/bench.rs`.

mod answer;
mod bandwidth;
mod measure;
mod report;

pub(crate) use answer::{AnswerPlan, forced, measure_answer, random_tokens};
pub(crate) use bandwidth::read_bandwidth;
pub(crate) use measure::{Measured, Test, measure};
pub(crate) use report::{Subject, json, table_head, table_row};
