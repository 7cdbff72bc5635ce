//! A context that computes the logits of given tokens, for evaluation and for importance matrices. It is set up like the
//! one of llama-perplexity and llama-imatrix: several sequences with separate KV caches, and only ggml's kernels. So the
//! results can be compared with theirs.

use super::Token;
use super::inner_context::{self, Shape, defect, seq_id};
use super::settings::{EngineSettings, N_BATCH, N_CTX_MIN};
use crate::error::Failure;
use crate::interrupt::Interrupt;
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_ext::observe::Observer;
use std::ops::Range;

/// Tokens to compute as one sequence, from an empty KV cache.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sequence<'a> {
    /// At most the context size.
    pub(crate) tokens: &'a [Token],
    /// Positions whose logits are computed.
    pub(crate) logits: &'a [bool],
}

/// KV cache and compute buffers for several sequences of up to `n_ctx` tokens.
#[derive(Debug)]
pub(crate) struct ScoringContext<'m> {
    inner: LlamaContext<'m>,
    batch: LlamaBatch<'static>,
    n_ctx: usize,
    n_seqs: usize,
    n_batch: usize,
    n_vocab: usize,
    /// For each sequence, the row of its first position in the last batch, and the positions that this batch has.
    rows: Vec<(usize, Range<usize>)>,
    /// For each row of the last batch, whether its logits were computed.
    has_logits: Vec<bool>,
    /// Logits of earlier batches of a sequence that is longer than a batch, by position.
    kept: Vec<(usize, Vec<f32>)>,
}

/// Returns the sequences of `n_ctx` tokens that are computed together: as many as a batch holds, as llama-perplexity does.
pub(crate) fn scored_together(n_ctx: usize) -> usize {
    (N_BATCH as usize / n_ctx.max(1)).max(1)
}

/// Returns the cells of a context for sequences of `n_ctx` tokens.
pub(crate) fn scored_cells(n_ctx: u32) -> u32 {
    let cells = scored_together(n_ctx as usize).saturating_mul(n_ctx as usize);
    u32::try_from(cells).unwrap_or(u32::MAX).max(N_CTX_MIN)
}

impl<'m> ScoringContext<'m> {
    /// Creates a context for sequences of up to `n_ctx` tokens. `observer` observes its computations.
    pub(super) fn new(
        model: &'m LlamaModel,
        settings: &EngineSettings,
        n_threads: u32,
        n_ctx: usize,
        observer: Option<Box<dyn Observer>>,
        interrupt: Interrupt,
    ) -> Result<Self, Failure> {
        let n_seqs = scored_together(n_ctx);
        let cells = u32::try_from(n_seqs * n_ctx).unwrap_or(u32::MAX);
        let shape = Shape {
            n_cells: cells,
            n_batch: N_BATCH.min(cells),
            n_seqs: u32::try_from(n_seqs).unwrap_or(1),
            unified: false,
            flash_attn: settings.flash_attn,
        };
        let inner = inner_context::create(model, settings, n_threads, &shape, observer, interrupt)?;
        let n_batch = inner.n_batch() as usize;
        Ok(Self {
            batch: LlamaBatch::new(n_batch, 1),
            n_ctx,
            n_seqs,
            n_batch,
            n_vocab: usize::try_from(model.n_vocab()).unwrap_or(0),
            rows: Vec::new(),
            has_logits: Vec::new(),
            kept: Vec::new(),
            inner,
        })
    }

    /// Computes up to [`scored_together`] sequences. Returns false if it was interrupted.
    pub(crate) fn compute(&mut self, sequences: &[Sequence<'_>]) -> Result<bool, Failure> {
        let fits = |sequence: &Sequence<'_>| {
            let known = |token: &Token| usize::try_from(token.0).is_ok_and(|id| id < self.n_vocab);
            (1..=self.n_ctx).contains(&sequence.tokens.len())
                && sequence.logits.len() == sequence.tokens.len()
                && sequence.tokens.iter().all(known)
        };
        if sequences.is_empty() || sequences.len() > self.n_seqs || !sequences.iter().all(fits) {
            return Err(defect("sequences that do not fit into the context".to_owned()));
        }
        self.inner.clear_kv_cache();
        self.kept.clear();
        let longest = sequences.iter().map(|sequence| sequence.tokens.len()).max().unwrap_or(0);
        let mut from = 0;
        while from < longest {
            if from > 0 {
                self.keep()?;
            }
            let to = (from + self.n_batch).min(longest);
            if !self.compute_positions(sequences, from..to)? {
                return Ok(false);
            }
            from = to;
        }
        Ok(true)
    }

    /// Computes these positions of every sequence as one batch.
    fn compute_positions(&mut self, sequences: &[Sequence<'_>], positions: Range<usize>) -> Result<bool, Failure> {
        self.batch.clear();
        self.rows.clear();
        self.has_logits.clear();
        for (seq, sequence) in sequences.iter().enumerate() {
            let here = positions.start.min(sequence.tokens.len())..positions.end.min(sequence.tokens.len());
            self.rows.push((self.has_logits.len(), here.clone()));
            for pos in here {
                let at = i32::try_from(pos).unwrap_or(i32::MAX);
                let added = self.batch.add(sequence.tokens[pos], at, &[seq_id(seq)], sequence.logits[pos]);
                added.map_err(|err| defect(err.to_string()))?;
                self.has_logits.push(sequence.logits[pos]);
            }
        }
        inner_context::decode(&mut self.inner, &mut self.batch)
    }

    /// Copies the logits of the last batch, which the next one overwrites. Only a single sequence that is longer than a batch
    /// has several.
    fn keep(&mut self) -> Result<(), Failure> {
        for pos in self.rows.first().map_or(0..0, |(_, positions)| positions.clone()) {
            if self.has_logits.get(pos % self.n_batch) == Some(&true) {
                let logits = self.logits(0, pos)?.to_vec();
                self.kept.push((pos, logits));
            }
        }
        Ok(())
    }

    /// Returns the logits after position `pos` of sequence `seq`, one for each token of the vocabulary. They must have been
    /// asked for in the last [`ScoringContext::compute`].
    pub(crate) fn logits(&self, seq: usize, pos: usize) -> Result<&[f32], Failure> {
        let missing = || defect(format!("no logits at position {pos} of sequence {seq}"));
        let (row, positions) = self.rows.get(seq).ok_or_else(missing)?;
        if pos < positions.start {
            let at = self.kept.binary_search_by_key(&pos, |(pos, _)| *pos).map_err(|_| missing())?;
            return Ok(&self.kept[at].1);
        }
        let row = row + pos - positions.start;
        if !positions.contains(&pos) || self.has_logits.get(row) != Some(&true) {
            return Err(missing());
        }
        let row = i32::try_from(row).map_err(|_| missing())?;
        Ok(self.inner.get_logits_ith(row))
    }
}
