//! The facts of a model card, before they are rendered as text.

use super::licence::Licence;
use crate::model::eval_record::EvalRecord;
use crate::model::hub::RepoId;
use crate::model::registry::Entry;
use tulu_quantize::{Checkpoint, Ftype};

/// Marks cards written by this program; only those are overwritten without `--force`.
pub(super) const GENERATED_BY: &str =
    "<!-- written by tulu-quant convert --card; with this line it is replaced by the next one -->";

/// A GGUF file in the card.
pub(super) struct CardFile {
    pub(super) ftype: Ftype,
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) bits_per_weight: f64,
    /// Bytes of memory to run it with the whole context.
    pub(super) memory: u64,
    pub(super) sha256: String,
}

/// All facts of a card.
pub(super) struct Card<'a> {
    pub(super) source: &'a Checkpoint,
    pub(super) n_params: u64,
    pub(super) repo: Option<RepoId>,
    pub(super) entry: Option<Entry>,
    pub(super) licence: Licence,
    /// Names of licence and notice files that came with the checkpoint.
    pub(super) licence_files: Vec<String>,
    pub(super) files: Vec<CardFile>,
    /// Results of an evaluation; empty without one.
    pub(super) results: &'a [(Ftype, EvalRecord)],
    /// The prompt of a conversation with one question, and of one with two questions.
    pub(super) prompts: [String; 2],
    /// Whether the template writes system messages.
    pub(super) has_system: bool,
}

/// Returns the texts of BOS and EOS.
pub(super) fn specials(source: &Checkpoint) -> [&str; 2] {
    let tokenizer = &source.tokenizer;
    [tokenizer.bos.map_or("", |id| tokenizer.text(id)), tokenizer.text(tokenizer.eos)]
}
