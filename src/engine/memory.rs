//! How much memory a model takes with a window of so many tokens, and the window that fits: said before the weights are
//! read, with the flag that would make it fit, instead of the kernel's out-of-memory killer after they are.

use super::settings::{CacheType, FlashAttn, N_CTX_MIN, N_UBATCH, Settings};
use crate::error::Failure;

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
    /// Bytes that the KV cache takes for each token of each slot.
    pub(crate) fn kv_bytes_per_token(&self, type_k: CacheType, type_v: CacheType) -> u64 {
        let values = u64::from(self.n_head_kv) * u64::from(self.head_dim);
        let row = |cache: CacheType| {
            let (block, bytes) = cache.block();
            values.div_ceil(block) * bytes
        };
        u64::from(self.n_layer) * (row(type_k) + row(type_v))
    }

    /// Bytes of llama.cpp's scratch buffers: logits and activations of one micro-batch (the widest layer is about three
    /// times the stream), and without flash attention the score matrix.
    fn compute_bytes(&self, settings: &Settings, n_ctx: u32) -> u64 {
        let row = u64::from(self.n_vocab) + 16 * u64::from(self.n_embd);
        let scores = match settings.flash_attn {
            FlashAttn::Off => u64::from(self.n_head) * u64::from(n_ctx),
            FlashAttn::On | FlashAttn::Auto => 0,
        };
        u64::from(N_UBATCH) * 4 * (row + scores)
    }

    /// Bytes of main memory that `n_slots` windows of `n_ctx` tokens take, weights included. What is offloaded to a GPU
    /// is left out, layer by layer.
    pub(crate) fn needs(&self, settings: &Settings, n_ctx: u32, n_slots: u32) -> u64 {
        let tokens = u64::from(n_ctx) * u64::from(n_slots);
        let kv = self.kv_bytes_per_token(settings.type_k, settings.type_v).saturating_mul(tokens);
        let layers = u64::from(self.n_layer) + 1;
        let here = layers - u64::from(settings.n_gpu_layers).min(layers);
        let movable = u128::from(self.weights.saturating_add(kv)) * u128::from(here) / u128::from(layers);
        u64::try_from(movable).unwrap_or(u64::MAX).saturating_add(self.compute_bytes(settings, n_ctx))
    }

    /// The window of one slot, in tokens: as asked, or else what the model was trained for, cut to what fits in
    /// `available` bytes.
    pub(crate) fn window(&self, settings: &Settings, n_slots: u32, available: u64) -> Result<u32, Failure> {
        let asked = settings.n_ctx.unwrap_or(self.n_ctx_train);
        if asked > self.n_ctx_train {
            let what =
                format!("a window of {asked} tokens is more than the {} the model was trained for", self.n_ctx_train);
            return Err(Failure::input("CTX_SIZE", what, format!("ask for at most {} (-c)", self.n_ctx_train)));
        }
        if self.needs(settings, asked, n_slots) <= available {
            return Ok(asked);
        }
        let fits = |settings: &Settings| {
            (1..=asked / N_CTX_MIN)
                .rev()
                .map(|steps| steps * N_CTX_MIN)
                .find(|n_ctx| self.needs(settings, *n_ctx, n_slots) <= available)
        };
        if let (None, Some(n_ctx)) = (settings.n_ctx, fits(settings)) {
            return Ok(n_ctx);
        }
        let small = Settings { type_k: CacheType::Q8_0, type_v: CacheType::Q8_0, ..settings.clone() };
        let fix = if self.needs(&small, asked, n_slots) <= available && settings.flash_attn != FlashAttn::Off {
            "give -ctk q8_0 -ctv q8_0, or a smaller -c".to_owned()
        } else if let Some(n_ctx) = fits(settings) {
            format!("give -c {n_ctx} or less")
        } else if n_slots > 1 {
            "give fewer slots with -np, or take a smaller type such as Q4_K_M".to_owned()
        } else {
            "close other programs, or take a smaller type such as Q4_K_M or Q3_K_M".to_owned()
        };
        let what = format!(
            "{} slot(s) of {asked} tokens need {} of memory (weights {}), and {} is free",
            n_slots,
            gib(self.needs(settings, asked, n_slots)),
            gib(self.weights),
            gib(available)
        );
        Err(Failure::machine("MEMORY", what, fix))
    }
}

fn gib(bytes: u64) -> String {
    format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30))
}

/// Bytes that programs can still take without swapping, this process's control group included; `u64::MAX` where the
/// system does not say.
pub(crate) fn available_memory() -> u64 {
    let Ok(mut system) = sysinfo::System::new() else { return u64::MAX };
    system.refresh_memory();
    let free = match system.available_memory() {
        0 => u64::MAX,
        bytes => bytes,
    };
    system.cgroup_limits().map_or(free, |limits| free.min(limits.free_memory))
}

#[cfg(test)]
mod tests {
    use super::{CacheType, FlashAttn, Settings, Shape};

    const GIB: u64 = 1 << 30;

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
        Settings {
            n_ctx,
            n_threads: None,
            n_gpu_layers: 0,
            flash_attn: FlashAttn::Auto,
            type_k: CacheType::F16,
            type_v: CacheType::F16,
            mmap: true,
        }
    }

    #[test]
    fn the_kv_cache_of_13b_takes_800_kib_a_token() {
        assert_eq!(tulu_13b().kv_bytes_per_token(CacheType::F16, CacheType::F16), 819_200);
        assert_eq!(tulu_13b().kv_bytes_per_token(CacheType::Q8_0, CacheType::Q8_0), 435_200);
    }

    #[test]
    fn the_default_window_is_cut_to_what_fits_and_an_asked_one_is_refused() {
        let shape = tulu_13b();
        assert_eq!(shape.window(&settings(None), 1, 64 * GIB).ok(), Some(4096));
        let cut = shape.window(&settings(None), 1, 9 * GIB).unwrap_or(0);
        assert!((256..4096).contains(&cut) && cut.is_multiple_of(256), "{cut}");
        let refused = shape.window(&settings(Some(4096)), 1, 10 * GIB);
        assert!(refused.is_err_and(|failure| failure.code == "MEMORY" && failure.fix.contains("-ctk q8_0")));
        let refused = shape.window(&settings(Some(4096)), 1, 9 * GIB);
        assert!(refused.is_err_and(|failure| failure.fix == format!("give -c {cut} or less")));
    }

    #[test]
    fn a_window_beyond_training_is_refused() {
        let refused = tulu_13b().window(&settings(Some(4097)), 1, 64 * GIB);
        assert!(refused.is_err_and(|failure| failure.code == "CTX_SIZE"));
    }

    #[test]
    fn what_the_gpu_holds_needs_no_main_memory() {
        let offloaded = Settings { n_gpu_layers: 99, ..settings(None) };
        assert!(tulu_13b().needs(&offloaded, 4096, 1) < GIB / 2);
    }
}
