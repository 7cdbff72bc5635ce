//! How much memory a model takes with a window of so many tokens, and the window that fits: said before the weights are
//! read, with the flag that would make it fit, instead of the kernel's out-of-memory killer after they are.

use super::available::Available;
use super::settings::{CacheType, FlashAttn, N_CTX_MIN, N_UBATCH, Settings};
use crate::error::{Code, Failure};

/// Slots when nobody says how many: more gain little on a CPU, and the mask grows with the pool.
const N_SLOTS_AUTO: u32 = 32;
/// Tokens of a slot, prompt and answer, that a pool should have room for when nobody says how many slots.
const SLOT_TOKENS: u32 = 512;
/// Cells of the largest pool: the mask over all of them is computed anew for each batch.
const N_CELLS_MAX: u32 = 64 << 10;

/// How the KV cache is laid out: one pool of cells, in which every slot has what it uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cache {
    /// Window of one conversation in tokens.
    pub(crate) n_ctx: u32,
    /// Conversations at once.
    pub(crate) n_slots: u32,
    /// Conversations more whose prompts can be read before it is their turn.
    pub(crate) n_ahead: u32,
    /// Tokens in the pool: at least one window.
    pub(crate) n_cells: u32,
}

/// The numbers of a model that its memory follows from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Transformer blocks.
    pub(crate) n_layer: u32,
    /// Width of the residual stream.
    pub(crate) n_embd: u32,
    /// Attention heads.
    pub(crate) n_head: u32,
    /// Heads of keys and values.
    pub(crate) n_head_kv: u32,
    /// Values in one head.
    pub(crate) head_dim: u32,
    /// Tokens in the vocabulary.
    pub(crate) n_vocab: u32,
    /// Window the model was trained for, in tokens.
    pub(crate) n_ctx_train: u32,
    /// Bytes of all tensors.
    pub(crate) weights: u64,
}

impl Shape {
    /// Bytes of the KV cache for each cell (one position of a token; a shared prefix is stored once).
    pub(crate) fn kv_bytes_per_token(&self, type_k: CacheType, type_v: CacheType) -> u64 {
        let values = u64::from(self.n_head_kv) * u64::from(self.head_dim);
        let row = |cache: CacheType| {
            let (block, bytes) = cache.block();
            values.div_ceil(block) * bytes
        };
        u64::from(self.n_layer) * (row(type_k) + row(type_v))
    }

    /// Bytes of llama.cpp's scratch buffers: logits and activations of one micro-batch (the widest layer is about three
    /// times the stream), and what [`Shape::cell_bytes`] counts.
    fn compute_bytes(&self, settings: &Settings, n_cells: u32) -> u64 {
        let row = u64::from(self.n_vocab) + 16 * u64::from(self.n_embd);
        u64::from(N_UBATCH) * (4 * row + self.cell_bytes(settings) * u64::from(n_cells))
    }

    /// Bytes of scratch for each cell and row of a micro-batch: the mask, in f16 with flash attention; without it in f32,
    /// and the score matrix beside it.
    fn cell_bytes(&self, settings: &Settings) -> u64 {
        match settings.flash_attn {
            FlashAttn::Off => 4 + 4 * u64::from(self.n_head),
            FlashAttn::On | FlashAttn::Auto => 2,
        }
    }

    /// Bytes of main memory for the weights, a KV cache of `n_cells` tokens and the scratch buffers, less the layers that are
    /// offloaded to a GPU.
    pub(crate) fn needs(&self, settings: &Settings, n_cells: u32) -> u64 {
        let kv = self.kv_bytes_per_token(settings.type_k, settings.type_v).saturating_mul(u64::from(n_cells));
        let layers = u64::from(self.n_layer) + 1;
        let here = layers - u64::from(settings.n_gpu_layers).min(layers);
        let movable = u128::from(self.weights.saturating_add(kv)) * u128::from(here) / u128::from(layers);
        u64::try_from(movable).unwrap_or(u64::MAX).saturating_add(self.compute_bytes(settings, n_cells))
    }

    /// Bytes for one conversation with its whole window when nothing is set: what a model card says.
    pub(crate) fn usual_need(&self) -> u64 {
        self.needs(&Settings::default(), self.n_ctx_train)
    }

    /// The KV cache for `slots` conversations at once, or for as many as suit the memory. Each may grow to a whole window.
    /// The pool has a window for each, but no more than half of what is free beside the first window, and no more than the
    /// input can use ([`Settings::n_needed`]). A conversation waits while the pool has no cells for its prompt.
    pub(crate) fn cache(
        &self,
        settings: &Settings,
        slots: Option<u32>,
        available: &Available,
    ) -> Result<Cache, Failure> {
        let n_ctx = self.window(settings, available)?;
        let kv = self.kv_bytes_per_token(settings.type_k, settings.type_v);
        let per_token = kv + self.cell_bytes(settings) * u64::from(N_UBATCH);
        let spare = available.bytes.saturating_sub(self.needs(settings, n_ctx)) / 2 / per_token.max(1);
        let most = match settings.n_cells {
            Some(asked) if asked < n_ctx => {
                let what = format!("{asked} tokens for all slots are less than one window of {n_ctx}");
                return Err(Failure::input(Code::KvTokens, what, format!("give --kv-tokens {n_ctx} or a smaller -c")));
            }
            Some(asked) => asked,
            None => n_ctx.saturating_add(u32::try_from(spare).unwrap_or(u32::MAX)),
        };
        let n_slots = slots.unwrap_or((most / SLOT_TOKENS).clamp(1, N_SLOTS_AUTO));
        let cells = n_ctx.saturating_mul(n_slots).min(most).clamp(n_ctx, N_CELLS_MAX.max(n_ctx));
        let needed = settings.n_needed.filter(|_| settings.n_cells.is_none()).unwrap_or(u64::MAX);
        let cells = cells.min(u32::try_from(needed).unwrap_or(u32::MAX)).max(n_ctx);
        Ok(Cache { n_ctx, n_slots, n_ahead: 0, n_cells: cells.checked_next_multiple_of(N_CTX_MIN).unwrap_or(cells) })
    }

    /// The window of one conversation, in tokens: as asked, or else what the model was trained for, cut to what fits in
    /// what is available.
    fn window(&self, settings: &Settings, available: &Available) -> Result<u32, Failure> {
        let asked = settings.n_ctx.unwrap_or(self.n_ctx_train);
        settings.check_window(self.n_ctx_train)?;
        if self.needs(settings, asked) <= available.bytes {
            return Ok(asked);
        }
        let fits = |settings: &Settings| {
            (1..=asked / N_CTX_MIN)
                .rev()
                .map(|steps| steps * N_CTX_MIN)
                .find(|n_ctx| self.needs(settings, *n_ctx) <= available.bytes)
        };
        if let (None, Some(n_ctx)) = (settings.n_ctx, fits(settings)) {
            return Ok(n_ctx);
        }
        let small = Settings { type_k: CacheType::Q8_0, type_v: CacheType::Q8_0, ..settings.clone() };
        let fix = if self.needs(&small, asked) <= available.bytes && settings.flash_attn != FlashAttn::Off {
            "give -ctk q8_0 -ctv q8_0, or a smaller -c".to_owned()
        } else if let Some(n_ctx) = fits(settings) {
            format!("give -c {n_ctx} or less")
        } else {
            format!("{}, or take a smaller type such as Q4_K_M or Q3_K_M", available.more)
        };
        let what = format!(
            "a window of {asked} tokens needs {} of memory (weights {}), and {} {}",
            gib(self.needs(settings, asked)),
            gib(self.weights),
            gib(available.bytes),
            available.bound
        );
        Err(Failure::machine(Code::Memory, what, fix))
    }
}

/// Bytes as people read them.
pub(super) fn gib(bytes: u64) -> String {
    format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30))
}

#[cfg(test)]
mod tests {
    use super::{Available, Cache, CacheType, Settings, Shape};
    use crate::error::Code;

    const GIB: u64 = 1 << 30;

    fn free(bytes: u64) -> Available {
        Available::of_machine(bytes)
    }

    /// Tulu 2 13B at Q4_K_M.
    fn tulu_13b() -> Shape {
        Shape {
            n_layer: 40,
            n_embd: 5120,
            n_head: 40,
            n_head_kv: 40,
            head_dim: 128,
            n_vocab: 32_000,
            n_ctx_train: 4096,
            weights: 7_865_000_000,
        }
    }

    fn settings(n_ctx: Option<u32>) -> Settings {
        Settings { n_ctx, ..Settings::default() }
    }

    #[test]
    fn the_kv_cache_of_13b_takes_800_kib_a_token() {
        assert_eq!(tulu_13b().kv_bytes_per_token(CacheType::F16, CacheType::F16), 819_200);
        assert_eq!(tulu_13b().kv_bytes_per_token(CacheType::Q8_0, CacheType::Q8_0), 435_200);
    }

    #[test]
    fn the_default_window_is_cut_to_what_fits_and_an_asked_one_is_refused() {
        let shape = tulu_13b();
        assert_eq!(shape.window(&settings(None), &free(64 * GIB)).ok(), Some(4096));
        let cut = shape.window(&settings(None), &free(9 * GIB)).unwrap_or(0);
        assert!((256..4096).contains(&cut) && cut.is_multiple_of(256), "{cut}");
        let refused = shape.window(&settings(Some(4096)), &free(10 * GIB));
        assert!(refused.is_err_and(|failure| failure.code == Code::Memory && failure.fix.contains("-ctk q8_0")));
        let refused = shape.window(&settings(Some(4096)), &free(9 * GIB));
        assert!(refused.is_err_and(|failure| failure.fix == format!("give -c {cut} or less")));
    }

    #[test]
    fn a_pool_holds_a_window_for_each_slot_or_what_fits() {
        let shape = tulu_13b();
        let cache =
            |slots, memory| shape.cache(&settings(None), slots, &free(memory)).unwrap_or_else(|err| panic!("{err}"));
        assert_eq!(cache(Some(1), 64 * GIB), Cache { n_ctx: 4096, n_slots: 1, n_ahead: 0, n_cells: 4096 });
        assert_eq!(cache(Some(4), 64 * GIB).n_cells, 4 * 4096);
        let tight = cache(Some(16), 16 * GIB);
        assert_eq!((tight.n_ctx, tight.n_slots), (4096, 16));
        assert!((4096..16 * 4096).contains(&tight.n_cells), "{tight:?}");
        let asked = Settings { n_cells: Some(5000), ..settings(None) };
        assert_eq!(shape.cache(&asked, Some(16), &free(64 * GIB)).map(|cache| cache.n_cells).ok(), Some(5120));
        let asked = Settings { n_cells: Some(4000), ..settings(None) };
        let refused = shape.cache(&asked, Some(16), &free(64 * GIB));
        assert!(
            refused.is_err_and(|failure| failure.code == Code::KvTokens && failure.fix.contains("--kv-tokens 4096"))
        );
        assert_eq!(cache(None, 256 * GIB).n_slots, 32);
        for (needed, cells) in [(9000, 9216), (100, 4096), (1 << 20, 4 * 4096)] {
            let short = Settings { n_needed: Some(needed), ..settings(None) };
            assert_eq!(shape.cache(&short, Some(4), &free(64 * GIB)).map(|cache| cache.n_cells).ok(), Some(cells));
        }
        let auto = cache(None, 16 * GIB);
        assert!((2..32).contains(&auto.n_slots), "{auto:?}");
        assert!(auto.n_slots * 512 <= auto.n_cells, "{auto:?}");
    }

    #[test]
    fn a_window_beyond_training_is_refused() {
        let refused = tulu_13b().window(&settings(Some(4097)), &free(64 * GIB));
        assert!(refused.is_err_and(|failure| failure.code == Code::CtxSize));
    }

    #[test]
    fn what_the_gpu_holds_needs_no_main_memory() {
        let offloaded = Settings { n_gpu_layers: 99, ..settings(None) };
        assert!(tulu_13b().needs(&offloaded, 4096) < GIB / 2);
    }
}
