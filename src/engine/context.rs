//! The context: the KV cache of all sequences, and the batch that is decoded next. It checks the conditions that
//! llama.cpp asserts: a batch has at most `n_batch` rows, a sequence has at most `n_ctx` tokens, and logits are read
//! only from rows that have them.

use super::Token;
use super::inner_context::{self, Shape, defect, seq_id};
use super::memory_plan::KvPlan;
use super::settings::EngineSettings;
use crate::error::Failure;
use crate::interrupt::Interrupt;
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;

/// KV cache, compute buffers and the batch under construction.
#[derive(Debug)]
pub(crate) struct Context<'m> {
    pub(super) inner: LlamaContext<'m>,
    batch: LlamaBatch<'static>,
    /// For each row of the batch, whether its logits were requested.
    logits: Vec<bool>,
    n_batch: usize,
    n_ctx: usize,
    n_slots: usize,
    n_seqs: usize,
    n_cells: usize,
    n_vocab: i32,
}

impl<'m> Context<'m> {
    /// Creates a context with one pool of cells for all sequences (`kv_unified`): a common prefix is stored once, and
    /// rows of all sequences are computed in one pass over the weights. `decode/` decides which sequence uses which
    /// cells.
    pub(super) fn new(
        model: &'m LlamaModel,
        settings: &EngineSettings,
        n_threads: u32,
        plan: KvPlan,
        interrupt: Interrupt,
    ) -> Result<Self, Failure> {
        let shape = Shape::generating(&plan, settings.flash_attn);
        let inner = inner_context::create(model, settings, n_threads, &shape, None, interrupt)?;
        let n_batch = inner.n_batch() as usize;
        Ok(Self {
            batch: LlamaBatch::new(n_batch, 1),
            logits: Vec::with_capacity(n_batch),
            n_batch,
            n_ctx: plan.n_ctx as usize,
            n_slots: plan.n_slots as usize,
            n_seqs: shape.n_seqs as usize,
            n_cells: plan.n_cells as usize,
            n_vocab: model.n_vocab(),
            inner,
        })
    }

    /// Context size of one sequence, in tokens.
    pub(crate) fn n_ctx(&self) -> usize {
        self.n_ctx
    }

    /// Sequences that generate at the same time.
    pub(crate) fn n_slots(&self) -> usize {
        self.n_slots
    }

    /// Sequences of the KV cache: one for each slot, those whose prompts are prefilled ahead, and those that keep tokens.
    pub(crate) fn n_seqs(&self) -> usize {
        self.n_seqs
    }

    /// Cells of the KV cache, for all sequences together.
    pub(crate) fn n_cells(&self) -> usize {
        self.n_cells
    }

    /// Maximum rows of a batch.
    pub(crate) fn n_batch(&self) -> usize {
        self.n_batch
    }

    /// Vocabulary size.
    pub(crate) fn n_vocab(&self) -> i32 {
        self.n_vocab
    }

    /// Clears the batch.
    pub(crate) fn clear_batch(&mut self) {
        self.batch.clear();
        self.logits.clear();
    }

    /// Adds `token` at position `pos` of sequence `seq` to the batch, and returns its row. `logits`: compute its
    /// logits.
    pub(crate) fn push(&mut self, token: Token, pos: usize, seq: usize, logits: bool) -> Result<usize, Failure> {
        let row = self.logits.len();
        if row >= self.n_batch || seq >= self.n_seqs || pos >= self.n_ctx || !(0..self.n_vocab).contains(&token.0) {
            return Err(defect(format!(
                "invalid token {token} at position {pos} of sequence {seq} in row {row} of the batch"
            )));
        }
        let pos = i32::try_from(pos).unwrap_or(i32::MAX);
        self.batch.add(token, pos, &[seq_id(seq)], logits).map_err(|err| defect(err.to_string()))?;
        self.logits.push(logits);
        Ok(row)
    }

    /// Computes the batch and waits for the results. Returns false if it was interrupted: the KV cache can then contain
    /// parts of the batch, so the caller must truncate its sequences.
    pub(crate) fn decode(&mut self) -> Result<bool, Failure> {
        if self.logits.is_empty() {
            return Err(defect("an empty batch".to_owned()));
        }
        inner_context::decode(&mut self.inner, &mut self.batch)
    }

    /// Returns the logits of `row` of the last decoded batch, one for each token of the vocabulary.
    pub(crate) fn logits(&self, row: usize) -> Result<&[f32], Failure> {
        if self.logits.get(row) != Some(&true) {
            return Err(defect(format!("row {row} of the batch has no logits")));
        }
        Ok(self.inner.get_logits_ith(i32::try_from(row).unwrap_or(i32::MAX)))
    }

    /// Copies the first `len` tokens of sequence `from` to the empty sequence `to` (`llama_memory_seq_cp`). No data is
    /// copied: both sequences share these cells.
    pub(crate) fn copy_prefix(&mut self, from: usize, to: usize, len: usize) -> Result<(), Failure> {
        let what = |err| defect(format!("cannot copy {len} tokens of sequence {from} to sequence {to}: {err}"));
        let end = u32::try_from(len).unwrap_or(u32::MAX);
        self.inner.copy_kv_cache_seq(seq_id(from), seq_id(to), Some(0), Some(end)).map_err(what)
    }

    /// Removes the first `len` tokens of sequence `seq`; the others keep their positions.
    pub(crate) fn remove_prefix(&mut self, seq: usize, len: usize) -> Result<(), Failure> {
        let end = u32::try_from(len).unwrap_or(u32::MAX);
        let what = |err| defect(format!("cannot remove {len} tokens of sequence {seq}: {err}"));
        self.inner.kv_cache_seq_rm(seq_id(seq), Some(0), Some(end)).map_err(what)
    }

    /// Removes the tokens of sequence `seq` from position `len` on.
    pub(crate) fn truncate(&mut self, seq: usize, len: usize) -> Result<(), Failure> {
        let from = u32::try_from(len).unwrap_or(u32::MAX);
        let what = |err| defect(format!("cannot truncate sequence {seq} to {len} tokens: {err}"));
        self.inner.kv_cache_seq_rm(seq_id(seq), Some(from), None).map_err(what)
    }
}
