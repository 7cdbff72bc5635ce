//! The base's distributions in a file, for runs whose models do not fit into memory together, and for later runs. A
//! distribution over the vocabulary is `output matrix · hidden state`, so the file has the hidden states, which are much
//! smaller: quantized, with the largest precision for which the file has at most a tenth of the size of llama-perplexity's.
//! What this loses is measured when it is written, and corrected and bounded when it is read (`row_facts.rs`).
//!
//! `file`: records with checksums. `block`: one chunk. `states`: hidden states. `logits16`: all logits in 16 bits, as
//! llama-perplexity stores them. `output_matrix`: from hidden states to logits. `bits`: Rice codes.

mod bits;
mod block;
mod compare;
mod file;
mod logits16;
mod output_matrix;
mod row_facts;
mod states;

pub(crate) use block::{Block, Encoding, encode};
pub(crate) use compare::compare;
pub(crate) use file::BaseFile;
pub(crate) use output_matrix::OutputMatrix;
pub(crate) use row_facts::RowFacts;
