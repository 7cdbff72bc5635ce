//! What all steps of an evaluation need.

use super::candidates::Candidate;
use crate::corpus::{Chunk, Corpus};
use crate::engine::scored_together;
use crate::error::Failure;
use crate::interrupt::Interrupt;
use crate::model::fingerprint;
use serde_json::{Value, json};
use std::path::Path;

/// An evaluation.
pub(super) struct Setup<'a> {
    pub(super) candidates: &'a [Candidate],
    pub(super) corpus: &'a Corpus,
    pub(super) chunks: &'a [Chunk],
    /// Tokens of the longest chunk.
    pub(super) n_ctx: usize,
    /// Threads that compare distributions.
    pub(super) n_threads: usize,
    /// A folder for files that are deleted at the end.
    pub(super) folder: Option<&'a Path>,
    pub(super) interrupt: &'a Interrupt,
}

impl Setup<'_> {
    /// Returns the index of the base.
    pub(super) fn base(&self) -> Option<usize> {
        self.candidates.iter().position(|one| one.is_base)
    }

    /// Returns the bytes of memory that a candidate needs while it is evaluated.
    pub(super) fn memory(&self, one: &Candidate) -> u64 {
        let together = scored_together(self.n_ctx);
        let cells = u32::try_from(together * self.n_ctx).unwrap_or(u32::MAX);
        one.dims.memory_needed(&one.settings, cells) + self.logits(one)
    }

    /// Returns the bytes of the logits of the chunks that are computed together.
    pub(super) fn logits(&self, one: &Candidate) -> u64 {
        let rows = self.chunks.chunks(scored_together(self.n_ctx));
        let rows = rows.map(|group| group.iter().map(|chunk| chunk.scored.len()).sum::<usize>()).max().unwrap_or(0);
        4 * u64::from(one.dims.n_vocab) * rows as u64
    }

    /// Returns what the scores depend on.
    pub(super) fn identity(&self) -> Result<Value, Failure> {
        let files: Vec<Value> = self.candidates.iter().map(|of| self.one(of)).collect::<Result<_, _>>()?;
        let (base, text) = (self.base().is_some(), self.text());
        Ok(json!({"version": 2, "base": base, "text": text, "files": files}))
    }

    /// Returns what the base's distributions depend on.
    pub(super) fn base_identity(&self, base: &Candidate, encoding: &str) -> Result<Value, Failure> {
        Ok(json!({"version": 1, "text": self.text(), "base": self.one(base)?, "encoding": encoding}))
    }

    /// Returns the identity of the text and of what is scored of it.
    fn text(&self) -> Value {
        let scored: usize = self.chunks.iter().map(|chunk| chunk.scored.len()).sum();
        json!({"sha256": self.corpus.sha256(), "n_ctx": self.n_ctx, "n_chunks": self.chunks.len(), "n_scored": scored})
    }

    /// Returns the identity of a candidate. That of a swap is its group and its two files.
    fn one(&self, candidate: &Candidate) -> Result<Value, Failure> {
        let settings = &candidate.settings;
        let file = match &candidate.swap {
            None => fingerprint(&candidate.path)?,
            Some(swap) => json!({"tensors": swap.group.tensors, "from": fingerprint(&swap.from)?}),
        };
        Ok(json!({
            "file": file, "type_k": settings.type_k.name(), "type_v": settings.type_v.name(),
            "flash_attn": settings.flash_attn.name(), "gpu_layers": settings.gpu.layers.name(),
            "devices": settings.gpu.devices,
        }))
    }
}
