//! The context: the KV cache of every slot and the batch that is decoded next. It guards what llama.cpp asserts: the
//! batch never outgrows `n_batch`, a slot never outgrows its window, only rows with logits are sampled.

use super::memory::Cache;
use super::settings::{FlashAttn, N_BATCH, N_UBATCH, Settings};
use super::{Model, Token};
use crate::error::{Code, Failure};
use crate::interrupt::Interrupt;
use llama_cpp_2::DecodeError;
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_batch::LlamaBatch;
use std::num::NonZeroU32;

/// What `llama_decode` answers when its abort callback ended it.
const ABORTED: i32 = 2;

/// KV cache, scratch buffers and the batch under construction.
#[derive(Debug)]
pub(crate) struct Context<'m> {
    pub(super) inner: LlamaContext<'m>,
    batch: LlamaBatch<'static>,
    /// For each row of the batch, whether its logits were asked for.
    logits: Vec<bool>,
    n_batch: usize,
    n_ctx: usize,
    n_slots: usize,
    n_seqs: usize,
    n_cells: usize,
    n_vocab: i32,
}

impl<'m> Context<'m> {
    /// All slots share one pool of cells (`kv_unified`): a common beginning is stored once, and rows of any slots are
    /// computed in one pass over the weights. Who may take how many cells is `decode/`'s to know.
    pub(super) fn new(
        model: &'m Model,
        settings: &Settings,
        n_threads: u32,
        cache: Cache,
        interrupt: Interrupt,
    ) -> Result<Self, Failure> {
        let n_threads = i32::try_from(n_threads).unwrap_or(1);
        // Asked for by name, since the one that `auto` looks for is llama.cpp's own.
        let ours =
            settings.n_gpu_layers == 0 && settings.flash_attn != FlashAttn::Off && llama_ext::attention::enable();
        let flash_attn = if ours { FlashAttn::On } else { settings.flash_attn };
        let params = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(cache.n_cells))
            .with_n_batch(N_BATCH)
            .with_n_ubatch(N_UBATCH)
            .with_n_seq_max(cache.n_slots + cache.n_ahead)
            .with_kv_unified(true)
            .with_n_threads(n_threads)
            .with_n_threads_batch(n_threads)
            .with_flash_attention_policy(flash_attn.number())
            .with_type_k(settings.type_k.ggml())
            .with_type_v(settings.type_v.ggml());
        let params = llama_ext::abort::stop_when(params, move || interrupt.asked().is_some());
        llama_ext::log::clear();
        let inner = model.inner.new_context(super::model::backend()?, params).map_err(|_| {
            let what = format!("llama.cpp cannot make a context: {}", llama_ext::log::tail());
            Failure::machine(Code::Context, what, "give a smaller -c")
        })?;
        let n_batch = inner.n_batch() as usize;
        Ok(Self {
            batch: LlamaBatch::new(n_batch, 1),
            logits: Vec::with_capacity(n_batch),
            n_batch,
            n_ctx: cache.n_ctx as usize,
            n_slots: cache.n_slots as usize,
            n_seqs: (cache.n_slots + cache.n_ahead) as usize,
            n_cells: cache.n_cells as usize,
            n_vocab: model.inner.n_vocab(),
            inner,
        })
    }

    /// Window of one slot in tokens.
    pub(crate) fn n_ctx(&self) -> usize {
        self.n_ctx
    }

    /// Conversations at once.
    pub(crate) fn n_slots(&self) -> usize {
        self.n_slots
    }

    /// Sequences of the KV cache: one for each slot, and those whose prompts are read ahead.
    pub(crate) fn n_seqs(&self) -> usize {
        self.n_seqs
    }

    /// Tokens that the KV cache holds, of all slots together.
    pub(crate) fn n_cells(&self) -> usize {
        self.n_cells
    }

    /// Tokens that one batch can hold.
    pub(crate) fn n_batch(&self) -> usize {
        self.n_batch
    }

    /// Tokens in the vocabulary.
    pub(crate) fn n_vocab(&self) -> i32 {
        self.n_vocab
    }

    /// Empties the batch.
    pub(crate) fn clear_batch(&mut self) {
        self.batch.clear();
        self.logits.clear();
    }

    /// Puts `token` at position `pos` of `slot` into the batch and says its row.
    pub(crate) fn push(&mut self, token: Token, pos: usize, slot: usize, logits: bool) -> Result<usize, Failure> {
        let row = self.logits.len();
        if row >= self.n_batch || slot >= self.n_seqs || pos >= self.n_ctx || !(0..self.n_vocab).contains(&token.0) {
            return Err(defect(format!("token {token} for position {pos} of slot {slot} in row {row} of the batch")));
        }
        let (pos, seq) = (i32::try_from(pos).unwrap_or(i32::MAX), i32::try_from(slot).unwrap_or(i32::MAX));
        self.batch.add(token, pos, &[seq], logits).map_err(|err| defect(err.to_string()))?;
        self.logits.push(logits);
        Ok(row)
    }

    /// Computes the batch; returns when the results are there. False: somebody asked to stop, and the batch was given up.
    /// Parts of it may be in the KV cache then, so the caller truncates its slots.
    pub(crate) fn decode(&mut self) -> Result<bool, Failure> {
        if self.logits.is_empty() {
            return Err(defect("an empty batch".to_owned()));
        }
        match self.inner.decode(&mut self.batch) {
            Ok(()) => {
                self.inner.synchronize();
                Ok(true)
            }
            Err(DecodeError::Unknown(ABORTED)) => Ok(false),
            Err(DecodeError::NoKvCacheSlot) => Err(defect("no free cell in the KV cache".to_owned())),
            Err(err) => {
                let what = format!("llama.cpp cannot decode ({err}): {}", llama_ext::log::tail());
                Err(Failure::engine(Code::Decode, what, "verify the model file"))
            }
        }
    }

    /// The logits of `row` of the batch that was decoded last, as the model computed them.
    pub(crate) fn logits(&self, row: usize) -> Result<&[f32], Failure> {
        if self.logits.get(row) != Some(&true) {
            return Err(defect(format!("row {row} of the batch has no logits")));
        }
        Ok(self.inner.get_logits_ith(i32::try_from(row).unwrap_or(i32::MAX)))
    }

    /// Lets slot `to`, which holds nothing, begin with the first `len` tokens of slot `from`. Nothing is copied: both use
    /// the same cells from now on.
    pub(crate) fn share(&mut self, from: usize, to: usize, len: usize) -> Result<(), Failure> {
        let seq = |slot| i32::try_from(slot).unwrap_or(i32::MAX);
        let what = |err| defect(format!("cannot share {len} tokens of slot {from} with slot {to}: {err}"));
        let end = u32::try_from(len).unwrap_or(u32::MAX);
        self.inner.copy_kv_cache_seq(seq(from), seq(to), Some(0), Some(end)).map_err(what)
    }

    /// Forgets what `slot` holds from position `len` on.
    pub(crate) fn truncate(&mut self, slot: usize, len: usize) -> Result<(), Failure> {
        let (seq, from) = (i32::try_from(slot).unwrap_or(i32::MAX), u32::try_from(len).unwrap_or(u32::MAX));
        let what = |err| defect(format!("cannot cut slot {slot} to {len} tokens: {err}"));
        self.inner.kv_cache_seq_rm(seq, Some(from), None).map_err(what)
    }
}

/// Something that the caller should have made impossible.
fn defect(what: String) -> Failure {
    Failure::engine(Code::Defect, what, "report this: it is a defect of tulu-quant")
}
