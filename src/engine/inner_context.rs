//! llama.cpp's context: how it is created, and how its batches are computed. `context` uses it to generate, `scoring` to
//! evaluate given tokens.

use super::backend::backend;
use super::memory_plan::KvPlan;
use super::settings::{EngineSettings, FlashAttn, N_BATCH, N_UBATCH};
use crate::error::{Code, Failure};
use crate::interrupt::Interrupt;
use llama_cpp_2::DecodeError;
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_ext::observe::Observer;
use std::num::NonZeroU32;

/// Status of `llama_decode` after its abort callback stopped it.
const ABORTED: i32 = 2;

/// What differs between contexts of one model.
pub(super) struct Shape {
    /// Cells of the KV cache, one per token.
    pub(super) n_cells: u32,
    /// Maximum rows of a batch.
    pub(super) n_batch: u32,
    /// Maximum number of sequences.
    pub(super) n_seqs: u32,
    /// Whether all sequences share one pool of cells.
    pub(super) unified: bool,
    pub(super) flash_attn: FlashAttn,
}

impl Shape {
    /// The shape of a context that generates text.
    pub(super) fn generating(plan: &KvPlan, flash_attn: FlashAttn) -> Self {
        let n_seqs = plan.n_slots + plan.n_ahead + plan.n_kept;
        Self { n_cells: plan.n_cells, n_batch: N_BATCH, n_seqs, unified: true, flash_attn }
    }
}

/// Returns llama.cpp's parameters of a context.
pub(super) fn params(settings: &EngineSettings, n_threads: u32, shape: &Shape) -> LlamaContextParams {
    let n_threads = i32::try_from(n_threads).unwrap_or(1);
    LlamaContextParams::default()
        .with_n_ctx(NonZeroU32::new(shape.n_cells))
        .with_n_batch(shape.n_batch)
        .with_n_ubatch(N_UBATCH)
        .with_n_seq_max(shape.n_seqs)
        .with_kv_unified(shape.unified)
        .with_n_threads(n_threads)
        .with_n_threads_batch(n_threads)
        .with_flash_attention_policy(shape.flash_attn.number())
        .with_offload_kqv(settings.gpu.kv_offload)
        .with_type_k(settings.type_k.ggml())
        .with_type_v(settings.type_v.ggml())
}

/// Creates a context. `observer` observes its computations, and `interrupt` stops them.
///
/// # Errors
/// `CONTEXT` when llama.cpp cannot create it, usually for lack of memory.
pub(super) fn create<'m>(
    model: &'m LlamaModel,
    settings: &EngineSettings,
    n_threads: u32,
    shape: &Shape,
    observer: Option<Box<dyn Observer>>,
    interrupt: Interrupt,
) -> Result<LlamaContext<'m>, Failure> {
    let mut params = params(settings, n_threads, shape);
    if let Some(observer) = observer {
        params = llama_ext::observe::observe(params, observer);
    }
    let params = llama_ext::abort::abort_when(params, move || interrupt.asked().is_some());
    llama_ext::log::clear();
    model.new_context(backend()?, params).map_err(|_| {
        let what = format!("llama.cpp cannot make a context: {}", llama_ext::log::tail());
        Failure::machine(Code::Context, what, "give a smaller -c")
    })
}

/// Computes a batch. Returns false if it was interrupted.
///
/// # Errors
/// `DECODE` when llama.cpp fails.
pub(super) fn decode(context: &mut LlamaContext<'_>, batch: &mut LlamaBatch<'_>) -> Result<bool, Failure> {
    match context.decode(batch) {
        Ok(()) => {
            context.synchronize();
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

/// llama.cpp's id of a sequence.
pub(super) fn seq_id(seq: usize) -> i32 {
    i32::try_from(seq).unwrap_or(i32::MAX)
}

/// Returns an internal error: the caller broke a precondition.
pub(super) fn defect(what: String) -> Failure {
    Failure::engine(Code::Defect, what, "report this: it is a defect of tulu-quant")
}
