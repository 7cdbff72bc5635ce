//! Evaluation: what a quantized file loses. `token_score` compares two distributions, `statistics` makes numbers of all
//! scored tokens, `run` computes them chunk by chunk,
//! `store` and `base_file` keep the base in a file, `journal` keeps finished chunks for a run that is killed, `report`
//! prints, `tensor_group` has the groups of tensors that are swapped alone, `allocate` chooses a type for each. Flags are in `commands/eval/`, texts in `corpus/`.

mod allocate;
mod base_file;
mod journal;
mod page;
mod report;
mod run;
mod statistics;
mod store;
mod tensor_group;
mod token_score;
mod vocabulary;

pub(crate) use allocate::{Choice, allocate};
pub(crate) use base_file::{BaseFile, Encoding, OutputMatrix};
pub(crate) use journal::Journal;
pub(crate) use page::{details, page};
pub(crate) use report::{Entry, GroupEntry, Report, Speed};
pub(crate) use run::{Base, Pass, Subject, group_len, pass, stored_scores};
pub(crate) use statistics::{Divergence, Perplexity};
pub(crate) use store::{Store, store};
pub(crate) use tensor_group::{GroupBy, TensorGroup, groups as tensor_groups, pattern as tensor_pattern};
pub(crate) use vocabulary::vocabulary;
