//! Settings of a run that apply to every record which does not set them itself.

use super::format::Format;
use super::shard::Shard;
use crate::engine::Sampling;

/// Settings for records that do not set them.
#[derive(Clone, Debug)]
pub(crate) struct Defaults {
    /// Format of input and output.
    pub(crate) format: Format,
    /// The shard that this run processes.
    pub(crate) shard: Shard,
    /// How tokens are chosen. The seed is mixed with each record's id.
    pub(crate) sampling: Sampling,
    /// Repetition penalty over prompt and answer (vLLM's); `None`: the penalty in `sampling`.
    pub(crate) repetition_penalty: Option<f32>,
    /// Grammar of the answers.
    pub(crate) grammar: Option<String>,
    /// Stop strings.
    pub(crate) stop: Vec<String>,
    /// Completions for each prompt.
    pub(crate) n: u32,
    /// Maximum tokens to generate; `u32::MAX`: until the context is full.
    pub(crate) max_tokens: u32,
    /// Context size that the model was trained for, in tokens; `None` before the model is loaded.
    pub(crate) n_ctx_train: Option<u32>,
    /// The model's name in the results.
    pub(crate) model: String,
    /// The model as the user typed it.
    pub(crate) typed: String,
    /// `system_fingerprint` in the results: identifies the model file and the program.
    pub(crate) fingerprint: String,
    /// Hash of everything that the answers depend on. It is part of result ids, so that identical runs have equal ids
    /// and other runs have different ones.
    pub(crate) salt: String,
    /// Fixed timestamp of all results, in seconds since 1970; `None`: the time when each record finishes.
    pub(crate) stamp: Option<f64>,
}
