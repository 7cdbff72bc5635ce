//! What the card says, before it is written as text.

use super::licence::Licence;
use crate::model::hub::RepoId;
use crate::model::registry::Entry;
use tulu_quantize::{Checkpoint, Ftype};

/// Tells a card that this program wrote from one that somebody wrote.
pub(super) const GENERATED_BY: &str =
    "<!-- written by tulu-quant convert --card; with this line it is replaced by the next one -->";

/// One of the files the card is about.
pub(super) struct CardFile {
    pub(super) ftype: Ftype,
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) bits_per_weight: f64,
    /// To run it with the whole window.
    pub(super) memory: u64,
    pub(super) sha256: String,
}

/// Everything the card says.
pub(super) struct Card<'a> {
    pub(super) source: &'a Checkpoint,
    pub(super) n_params: u64,
    pub(super) repo: Option<RepoId>,
    pub(super) entry: Option<Entry>,
    pub(super) licence: Licence,
    /// Names of licence and notice files that came with the checkpoint.
    pub(super) licence_files: Vec<String>,
    pub(super) files: Vec<CardFile>,
    /// A question as the model reads it, and a conversation of two.
    pub(super) prompts: [String; 2],
    /// Whether the template writes system messages.
    pub(super) has_system: bool,
}

/// The special tokens' texts.
pub(super) fn specials(source: &Checkpoint) -> [&str; 2] {
    let text = |id: u32| source.tokenizer.tokens.get(id as usize).map_or("", |token| token.text.as_str());
    [text(source.tokenizer.bos), text(source.tokenizer.eos)]
}
