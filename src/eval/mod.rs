//! Evaluation: what a quantized file loses. `token_score` compares two distributions, `statistics` makes numbers of all
//! scored tokens, `run` computes them chunk by chunk, `journal` keeps finished chunks for a run that is killed, `report`
//! prints. Flags are in `commands/eval/`, texts in `corpus/`.

mod journal;
mod report;
mod run;
mod statistics;
mod token_score;
mod vocabulary;

pub(crate) use journal::Journal;
pub(crate) use report::{Entry, Report, Speed};
pub(crate) use run::{Pass, Subject, pass};
pub(crate) use statistics::{Divergence, Perplexity};
pub(crate) use vocabulary::vocabulary;
