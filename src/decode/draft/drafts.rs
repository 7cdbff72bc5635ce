//! Whether and from where the decoder gets guesses.

use super::forced::Forced;
use crate::engine::Model;

/// Whether and from where the decoder gets guesses of the next tokens. They make answers faster and do not change them; in
/// [`crate::decode::Mode::Deterministic`] they are never used, because the last bits of logits can depend on the rows of
/// a pass.
#[derive(Clone, Debug)]
pub(crate) struct Drafts<'m> {
    /// Where guesses come from.
    pub(crate) source: DraftSource<'m>,
    /// Guess this many tokens in every pass, even where it is slower. `None`: as many as are expected to pay.
    pub(crate) n_tokens: Option<usize>,
}

/// Where guesses come from.
#[derive(Clone, Debug)]
pub(crate) enum DraftSource<'m> {
    /// Nowhere: every pass computes one token of an answer.
    Off,
    /// From text that occurred before: in the conversation, and in [`crate::decode::Mode::Throughput`] in finished
    /// answers too.
    Lookup,
    /// From such text, or from a smaller model with the same vocabulary. It must be loaded for as many sequences as the
    /// main model has.
    SecondModel(&'m Model),
    /// From a given answer, for measurements.
    Forced(Forced),
}

impl Drafts<'_> {
    /// No guesses.
    pub(crate) fn off() -> Self {
        Self { source: DraftSource::Off, n_tokens: None }
    }
}
