//! What the engine is asked for, checked: the window, the threads, the types of the KV cache. The flags themselves are
//! in `cli.rs`; whether it all fits in memory is `memory.rs`.

use crate::error::{Code, Failure};
use llama_cpp_2::context::params::KvCacheType;
use llama_cpp_2::llama_backend::NumaStrategy;

/// Tokens handed to llama.cpp in one call at most; a larger batch gains nothing, as it is cut into [`N_UBATCH`].
pub(crate) const N_BATCH: u32 = 2048;
/// Tokens computed together at most: llama.cpp's own default, which its kernels and llama-bench are tuned for.
pub(crate) const N_UBATCH: u32 = 512;
/// The smallest window: llama.cpp pads every window to a multiple of this.
pub(crate) const N_CTX_MIN: u32 = 256;
/// More than any LLaMA model was trained for; whoever asks for more has mistyped.
const N_CTX_MAX: u32 = 16 << 20;
/// Sequences that one llama.cpp context can hold (`LLAMA_MAX_SEQ`).
pub(crate) const N_SLOTS_MAX: u32 = 256;

/// How the engine is to run.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Window of one slot in tokens; `None`: what the model was trained for, cut to what fits in memory.
    pub(crate) n_ctx: Option<u32>,
    /// Tokens that the KV cache holds for all slots together; `None`: what the memory has room for.
    pub(crate) n_cells: Option<u32>,
    /// Tokens that the KV cache can be asked to hold at once, as far as the input shows; the pool is not made larger than
    /// this or one window. `None`: not known.
    pub(crate) n_needed: Option<u64>,
    /// Threads for prefill and generation; `None`: what the model can use, see `threads.rs`.
    pub(crate) n_threads: Option<u32>,
    /// Layers kept on the GPU, the output layer counting as one.
    pub(crate) n_gpu_layers: u32,
    /// Whether attention runs without writing its score matrix.
    pub(crate) flash_attn: FlashAttn,
    /// Type of the keys in the KV cache.
    pub(crate) type_k: CacheType,
    /// Type of the values in the KV cache.
    pub(crate) type_v: CacheType,
    /// Map the file instead of reading it.
    pub(crate) mmap: bool,
    /// Keep the weights in memory.
    pub(crate) mlock: bool,
    /// How threads are spread over the nodes of a machine with several.
    pub(crate) numa: Numa,
    /// Whether the weights are rearranged for the CPU's kernels.
    pub(crate) repack: Repack,
}

impl Default for Settings {
    /// What runs when nothing is set.
    fn default() -> Self {
        Self {
            n_ctx: None,
            n_cells: None,
            n_needed: None,
            n_threads: None,
            n_gpu_layers: 0,
            flash_attn: FlashAttn::Auto,
            type_k: CacheType::F16,
            type_v: CacheType::F16,
            mmap: true,
            mlock: false,
            numa: Numa::Off,
            repack: Repack::Auto,
        }
    }
}

impl Settings {
    /// Refuses the combinations that llama.cpp would refuse later, without a reason, after the weights are loaded.
    pub(crate) fn check(self) -> Result<Self, Failure> {
        if self.n_ctx.is_some_and(|n| n < N_CTX_MIN) {
            return Err(Failure::input(
                Code::CtxSize,
                format!("--ctx-size is below {N_CTX_MIN} tokens, the smallest window llama.cpp makes"),
                format!("give at least {N_CTX_MIN}, or leave it out for what the model was trained for"),
            ));
        }
        if let Some(asked) = self.n_ctx.filter(|n| *n > N_CTX_MAX) {
            let what = format!("a window of {asked} tokens is more than any model of this kind has ({N_CTX_MAX})");
            return Err(Failure::input(Code::CtxSize, what, "leave -c out for what the model was trained for"));
        }
        if self.flash_attn == FlashAttn::Off && self.type_v.is_quantized() {
            return Err(Failure::input(
                Code::CacheType,
                format!("--cache-type-v {} needs flash attention, which --flash-attn off forbids", self.type_v.name()),
                "drop --flash-attn off, or keep the values in f16",
            ));
        }
        Ok(self)
    }

    /// Refuses a context size above the `trained` tokens that the model was trained for.
    pub(crate) fn check_trained_context(&self, trained: u32) -> Result<(), Failure> {
        let Some(asked) = self.n_ctx.filter(|asked| *asked > trained) else { return Ok(()) };
        let what = format!("a window of {asked} tokens is more than the {trained} the model was trained for");
        Err(Failure::input(Code::CtxSize, what, format!("ask for at most {trained} (-c)")))
    }
}

/// Flash attention: `auto` takes it where the device has a kernel for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum FlashAttn {
    /// Always.
    On,
    /// Never.
    Off,
    /// Where the device has a kernel for it.
    #[default]
    Auto,
}

impl FlashAttn {
    /// Its name for llama.cpp's users.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Auto => "auto",
        }
    }

    /// The number of `enum llama_flash_attn_type`.
    pub(super) fn number(self) -> i32 {
        match self {
            Self::Auto => -1,
            Self::Off => 0,
            Self::On => 1,
        }
    }
}

/// Where threads run on a machine with several memory nodes (sockets). On one with a single node it changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Numa {
    /// Where the system puts them.
    #[default]
    Off,
    /// Evenly over all nodes.
    Distribute,
    /// On the node where the program was started.
    Isolate,
    /// Where numactl, which started the program, says.
    Numactl,
}

impl Numa {
    /// llama.cpp's; `None` when it is to be left alone.
    pub(super) fn strategy(self) -> Option<NumaStrategy> {
        match self {
            Self::Off => None,
            Self::Distribute => Some(NumaStrategy::DISTRIBUTE),
            Self::Isolate => Some(NumaStrategy::ISOLATE),
            Self::Numactl => Some(NumaStrategy::NUMACTL),
        }
    }
}

/// Whether the weights are copied into an order that suits the CPU's kernels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Repack {
    /// Always: the fastest for one answer at a time.
    On,
    /// Never: often the fastest for long prompts and for many answers at once, and takes less memory.
    Off,
    /// On for one answer at a time; for several what a short measurement says.
    #[default]
    Auto,
}

impl Repack {
    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Auto => "auto",
        }
    }
}

/// Types that the KV cache can have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum CacheType {
    /// 4 bytes a value.
    F32,
    /// 2 bytes a value.
    #[default]
    F16,
    /// 2 bytes a value, f32's range.
    Bf16,
    /// 34 bytes for 32 values.
    #[value(name = "q8_0")]
    Q8_0,
    /// 22 bytes for 32 values.
    #[value(name = "q5_0")]
    Q5_0,
    /// 18 bytes for 32 values.
    #[value(name = "q4_0")]
    Q4_0,
}

impl CacheType {
    /// Its name for llama.cpp's users.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Q8_0 => "q8_0",
            Self::Q5_0 => "q5_0",
            Self::Q4_0 => "q4_0",
        }
    }

    /// Values in a block and bytes of a block.
    pub(crate) fn block(self) -> (u64, u64) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q8_0 => (32, 34),
            Self::Q5_0 => (32, 22),
            Self::Q4_0 => (32, 18),
        }
    }

    fn is_quantized(self) -> bool {
        self.block().0 > 1
    }

    pub(super) fn ggml(self) -> KvCacheType {
        match self {
            Self::F32 => KvCacheType::F32,
            Self::F16 => KvCacheType::F16,
            Self::Bf16 => KvCacheType::BF16,
            Self::Q8_0 => KvCacheType::Q8_0,
            Self::Q5_0 => KvCacheType::Q5_0,
            Self::Q4_0 => KvCacheType::Q4_0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CacheType, FlashAttn, Settings};
    use crate::error::Code;

    #[test]
    fn a_quantized_v_cache_needs_flash_attention() {
        let quantized = Settings { type_v: CacheType::Q8_0, ..Settings::default() };
        assert!(quantized.clone().check().is_ok());
        let refused = Settings { flash_attn: FlashAttn::Off, ..quantized }.check();
        assert_eq!(refused.map_err(|failure| failure.code).err(), Some(Code::CacheType));
    }

    #[test]
    fn a_window_that_cannot_be_is_refused() {
        for n_ctx in [0, 255, (16 << 20) + 1, u32::MAX] {
            let refused = Settings { n_ctx: Some(n_ctx), ..Settings::default() }.check();
            assert_eq!(refused.map_err(|failure| failure.code).err(), Some(Code::CtxSize));
        }
    }
}
