//! Plans the memory of a run: the context size, the number of slots and the size of the KV cache that fit in the
//! available memory. The plan is made before the weights are loaded, so that an error can suggest a flag; otherwise the
//! kernel could kill the process later. The formula is in `model_dims.rs`, the available memory in `available.rs`.

use super::model_dims::ModelDims;
use super::settings::{CacheType, EngineSettings, FlashAttn, N_CTX_MIN};
use crate::error::{Code, Failure};
use crate::platform::Available;
use crate::table::gib;

/// Maximum slots if the user gives no number: more slots gain little on a CPU, and the cost of the mask grows with the
/// pool.
const N_SLOTS_AUTO: u32 = 32;
/// Tokens per slot, prompt and answer, that the pool should hold if the user gives no number of slots.
const SLOT_TOKENS: u32 = 512;
/// Maximum cells of the pool (or one context, if that is larger), because the mask over all cells is computed for each
/// batch.
const N_CELLS_MAX: u32 = 64 << 10;

/// Size of the KV cache: one pool of cells that all slots share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KvPlan {
    /// Context size of one sequence, in tokens.
    pub(crate) n_ctx: u32,
    /// Sequences that generate at the same time.
    pub(crate) n_slots: u32,
    /// Additional sequences, whose prompts are prefilled before a slot is free.
    pub(crate) n_ahead: u32,
    /// Additional sequences that keep the tokens of finished requests.
    pub(crate) n_kept: u32,
    /// Cells of the pool, one per token: at least `n_ctx`.
    pub(crate) n_cells: u32,
}

impl KvPlan {
    /// Plans the KV cache of a run on the CPU, for `n_slots` sequences, or for as many as the available memory suggests.
    ///
    /// # Errors
    /// `CTX_SIZE`, `MEMORY`: the context is too large. `KV_TOKENS`: as [`Self::pool`].
    pub(super) fn on_cpu(
        dims: &ModelDims,
        settings: &EngineSettings,
        n_slots: Option<u32>,
        available: &Available,
    ) -> Result<Self, Failure> {
        let n_ctx = context_size(dims, settings, available)?;
        let left = available.bytes.saturating_sub(dims.memory_needed(settings, n_ctx));
        let spare = left / 2 / dims.bytes_per_cell(settings).max(1);
        Self::pool(settings, n_ctx, n_slots, spare)
    }

    /// Plans the KV cache for `n_slots` sequences, or for as many as it has cells for. Each sequence can grow to `n_ctx`
    /// tokens. The pool has `n_ctx` cells per slot, but at most one context plus `spare` cells (half of
    /// the remaining free memory), and at most the tokens that the input needs ([`EngineSettings::n_needed`]).
    /// `--kv-tokens` replaces these two limits. A request waits while the pool has no free cells for its prompt.
    ///
    /// # Errors
    /// `KV_TOKENS`: `--kv-tokens` is less than one context.
    pub(super) fn pool(
        settings: &EngineSettings,
        n_ctx: u32,
        n_slots: Option<u32>,
        spare: u64,
    ) -> Result<Self, Failure> {
        let most = match settings.n_cells {
            Some(asked) if asked < n_ctx => {
                let what = format!("{asked} tokens for all slots are less than the context of {n_ctx}");
                return Err(Failure::input(Code::KvTokens, what, format!("give --kv-tokens {n_ctx} or a smaller -c")));
            }
            Some(asked) => asked,
            None => n_ctx.saturating_add(u32::try_from(spare).unwrap_or(u32::MAX)),
        };
        let n_slots = n_slots.unwrap_or((most / SLOT_TOKENS).clamp(1, N_SLOTS_AUTO));
        let cells = n_ctx.saturating_mul(n_slots).min(most).clamp(n_ctx, N_CELLS_MAX.max(n_ctx));
        let needed = settings.n_needed.filter(|_| settings.n_cells.is_none()).unwrap_or(u64::MAX);
        let cells = cells.min(u32::try_from(needed).unwrap_or(u32::MAX)).max(n_ctx);
        Ok(Self {
            n_ctx,
            n_slots,
            n_ahead: 0,
            n_kept: 0,
            n_cells: cells.checked_next_multiple_of(N_CTX_MIN).unwrap_or(cells),
        })
    }
}

/// Returns the context size of one sequence, in tokens: as given; otherwise the training context, reduced to what fits
/// in the available memory.
///
/// # Errors
/// `CTX_SIZE`, `MEMORY`: the context is too large.
fn context_size(dims: &ModelDims, settings: &EngineSettings, available: &Available) -> Result<u32, Failure> {
    let asked = settings.n_ctx.unwrap_or(dims.n_ctx_train);
    settings.check_trained_context(dims.n_ctx_train)?;
    if dims.memory_needed(settings, asked) <= available.bytes {
        return Ok(asked);
    }
    let largest = (1..=asked / N_CTX_MIN)
        .rev()
        .map(|steps| steps * N_CTX_MIN)
        .find(|n_ctx| dims.memory_needed(settings, *n_ctx) <= available.bytes);
    if let (None, Some(n_ctx)) = (settings.n_ctx, largest) {
        return Ok(n_ctx);
    }
    let small = EngineSettings { type_k: CacheType::Q8_0, type_v: CacheType::Q8_0, ..settings.clone() };
    let fix = if dims.memory_needed(&small, asked) <= available.bytes && settings.flash_attn != FlashAttn::Off {
        "give -ctk q8_0 -ctv q8_0, or a smaller -c".to_owned()
    } else if let Some(n_ctx) = largest {
        format!("give -c {n_ctx} or less")
    } else {
        format!("{}, or take a smaller type such as Q4_K_M or Q3_K_M", available.more)
    };
    let what = format!(
        "a context of {asked} tokens needs {} of memory (weights {}), and {} {}",
        gib(dims.memory_needed(settings, asked)),
        gib(dims.tensor_bytes),
        gib(available.bytes),
        available.bound
    );
    Err(Failure::machine(Code::Memory, what, fix))
}

#[cfg(test)]
mod tests {
    use super::{Available, CacheType, EngineSettings, KvPlan, ModelDims, context_size};
    use crate::error::Code;

    const GIB: u64 = 1 << 30;

    fn free(bytes: u64) -> Available {
        Available::of_machine(bytes)
    }

    fn settings(n_ctx: Option<u32>) -> EngineSettings {
        EngineSettings { n_ctx, ..EngineSettings::default() }
    }

    #[test]
    fn the_kv_cache_of_13b_takes_800_kib_per_cell() {
        assert_eq!(ModelDims::tulu_13b().kv_bytes_per_cell(CacheType::F16, CacheType::F16), 819_200);
        assert_eq!(ModelDims::tulu_13b().kv_bytes_per_cell(CacheType::Q8_0, CacheType::Q8_0), 435_200);
    }

    #[test]
    fn the_default_context_is_reduced_to_fit_and_a_given_one_is_refused() {
        let dims = ModelDims::tulu_13b();
        assert_eq!(context_size(&dims, &settings(None), &free(64 * GIB)).ok(), Some(4096));
        let reduced = context_size(&dims, &settings(None), &free(9 * GIB)).unwrap_or(0);
        assert!((256..4096).contains(&reduced) && reduced.is_multiple_of(256), "{reduced}");
        let refused = context_size(&dims, &settings(Some(4096)), &free(10 * GIB));
        assert!(refused.is_err_and(|failure| failure.code == Code::Memory && failure.fix.contains("-ctk q8_0")));
        let refused = context_size(&dims, &settings(Some(4096)), &free(9 * GIB));
        assert!(refused.is_err_and(|failure| failure.fix == format!("give -c {reduced} or less")));
    }

    #[test]
    fn the_pool_has_one_context_per_slot_or_what_fits() {
        let dims = ModelDims::tulu_13b();
        let cache = |slots, memory| {
            KvPlan::on_cpu(&dims, &settings(None), slots, &free(memory)).unwrap_or_else(|err| panic!("{err}"))
        };
        assert_eq!(cache(Some(1), 64 * GIB), KvPlan { n_ctx: 4096, n_slots: 1, n_ahead: 0, n_kept: 0, n_cells: 4096 });
        assert_eq!(cache(Some(4), 64 * GIB).n_cells, 4 * 4096);
        let tight = cache(Some(16), 16 * GIB);
        assert_eq!((tight.n_ctx, tight.n_slots), (4096, 16));
        assert!((4096..16 * 4096).contains(&tight.n_cells), "{tight:?}");
        let asked = EngineSettings { n_cells: Some(5000), ..settings(None) };
        assert_eq!(
            KvPlan::on_cpu(&dims, &asked, Some(16), &free(64 * GIB)).map(|cache| cache.n_cells).ok(),
            Some(5120)
        );
        let asked = EngineSettings { n_cells: Some(4000), ..settings(None) };
        let refused = KvPlan::on_cpu(&dims, &asked, Some(16), &free(64 * GIB));
        assert!(
            refused.is_err_and(|failure| failure.code == Code::KvTokens && failure.fix.contains("--kv-tokens 4096"))
        );
        assert_eq!(cache(None, 256 * GIB).n_slots, 32);
        for (needed, cells) in [(9000, 9216), (100, 4096), (1 << 20, 4 * 4096)] {
            let short = EngineSettings { n_needed: Some(needed), ..settings(None) };
            assert_eq!(
                KvPlan::on_cpu(&dims, &short, Some(4), &free(64 * GIB)).map(|cache| cache.n_cells).ok(),
                Some(cells)
            );
        }
        let auto = cache(None, 16 * GIB);
        assert!((2..32).contains(&auto.n_slots), "{auto:?}");
        assert!(auto.n_slots * 512 <= auto.n_cells, "{auto:?}");
    }

    #[test]
    fn a_context_beyond_training_is_refused() {
        let refused = context_size(&ModelDims::tulu_13b(), &settings(Some(4097)), &free(64 * GIB));
        assert!(refused.is_err_and(|failure| failure.code == Code::CtxSize));
    }
}
