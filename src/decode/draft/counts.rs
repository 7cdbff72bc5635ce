//! Counters of the passes and drafts of an answer.

use serde_json::{Value, json};

/// The passes and drafts of one answer, or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DraftCounts {
    /// Generated tokens.
    pub(crate) tokens: u64,
    /// Passes over the weights that generated tokens.
    pub(crate) passes: u64,
    /// Guessed tokens that the model checked.
    pub(crate) drafted: u64,
    /// Guessed tokens that became part of the answer.
    pub(crate) accepted: u64,
}

impl DraftCounts {
    /// Adds the counters of another answer.
    pub(crate) fn add(&mut self, other: Self) {
        self.tokens += other.tokens;
        self.passes += other.passes;
        self.drafted += other.drafted;
        self.accepted += other.accepted;
    }

    /// Returns the fraction of guessed tokens that were accepted; `None` if none was guessed.
    pub(crate) fn acceptance(&self) -> Option<f64> {
        (self.drafted > 0).then(|| self.accepted as f64 / self.drafted as f64)
    }

    /// Returns the counters and their ratios, for scripts.
    pub(crate) fn json(&self) -> Value {
        json!({
            "tokens": self.tokens,
            "passes": self.passes,
            "tokens_per_pass": self.tokens_per_pass(),
            "drafted": self.drafted,
            "accepted": self.accepted,
            "acceptance": self.acceptance(),
        })
    }

    /// Returns the counters for people; `None` if nothing was guessed.
    pub(crate) fn text(&self) -> Option<String> {
        let acceptance = self.acceptance()?;
        Some(format!("{:.2} tokens a pass, {:.0} % of drafts accepted", self.tokens_per_pass(), acceptance * 100.0))
    }

    /// Returns the generated tokens divided by the passes; 0 without a pass.
    pub(crate) fn tokens_per_pass(&self) -> f64 {
        if self.passes == 0 { 0.0 } else { self.tokens as f64 / self.passes as f64 }
    }
}
