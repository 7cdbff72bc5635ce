//! The checked settings of the engine: context size, threads, types of the KV cache. The flags are in `options.rs`;
//! `memory_plan.rs` checks whether the run fits in memory.

use super::gpu_settings::GpuSettings;
use super::vocab::Bos;
use crate::error::{Code, Failure};
use llama_cpp_2::context::params::KvCacheType;
use llama_cpp_2::llama_backend::NumaStrategy;
use llama_ext::GgmlType;

/// Maximum tokens of a batch, for one call of llama.cpp; larger batches are not faster, because they are split into
/// micro-batches of [`N_UBATCH`].
pub(crate) const N_BATCH: u32 = 2048;
/// Maximum tokens of a micro-batch: llama.cpp's default, for which its kernels and llama-bench are optimized.
pub(crate) const N_UBATCH: u32 = 512;
/// The smallest context size: llama.cpp pads every context to a multiple of this.
pub(crate) const N_CTX_MIN: u32 = 256;
/// The largest context size: more than any LLaMA model was trained for, so a larger number is a typing error.
const N_CTX_MAX: u32 = 16 << 20;
/// Sequences that one llama.cpp context can hold (`LLAMA_MAX_SEQ`).
pub(crate) const N_SLOTS_MAX: u32 = 256;

/// Settings of the engine.
#[derive(Clone, Debug)]
pub(crate) struct EngineSettings {
    /// Context size of one sequence, in tokens; `None`: the training context, reduced to what fits in memory.
    pub(crate) n_ctx: Option<u32>,
    /// KV cache size in tokens, shared by all slots; `None`: as much as the available memory suggests.
    pub(crate) n_cells: Option<u32>,
    /// Upper bound of the tokens that the input needs in the KV cache at the same time. The cache is not larger than
    /// this or one context, whichever is larger. `None`: unknown.
    pub(crate) n_needed: Option<u64>,
    /// Bytes of memory that are kept free for a second model.
    pub(crate) reserved: u64,
    /// Additional sequences that keep the tokens of finished requests while there is room in the KV cache.
    pub(crate) n_kept: u32,
    /// Threads for prefill and generation; `None`: see `threads.rs`.
    pub(crate) n_threads: Option<u32>,
    /// What runs on GPUs.
    pub(crate) gpu: GpuSettings,
    /// Flash attention: attention without a score matrix in memory.
    pub(crate) flash_attn: FlashAttn,
    /// Type of the keys in the KV cache.
    pub(crate) type_k: CacheType,
    /// Type of the values in the KV cache.
    pub(crate) type_v: CacheType,
    /// Map the file into memory instead of reading it.
    pub(crate) mmap: bool,
    /// Lock the weights in memory (mlock).
    pub(crate) mlock: bool,
    /// How threads are spread over NUMA nodes.
    pub(crate) numa: Numa,
    /// Whether the weights are repacked for the CPU's kernels.
    pub(crate) repack: Repack,
    /// Whether prompts begin with BOS.
    pub(crate) bos: Bos,
}

impl Default for EngineSettings {
    /// The settings without any flag.
    fn default() -> Self {
        Self {
            n_ctx: None,
            n_cells: None,
            n_needed: None,
            reserved: 0,
            n_kept: 0,
            n_threads: None,
            gpu: GpuSettings::default(),
            flash_attn: FlashAttn::Auto,
            type_k: CacheType::F16,
            type_v: CacheType::F16,
            mmap: true,
            mlock: false,
            numa: Numa::Off,
            repack: Repack::Auto,
            bos: Bos::Auto,
        }
    }
}

impl EngineSettings {
    /// Refuses combinations that llama.cpp would refuse without a reason, after it has loaded the weights.
    pub(crate) fn check(self) -> Result<Self, Failure> {
        if self.n_ctx.is_some_and(|n| n < N_CTX_MIN) {
            return Err(Failure::input(
                Code::CtxSize,
                format!("--ctx-size is below {N_CTX_MIN} tokens, the smallest context of llama.cpp"),
                format!("give at least {N_CTX_MIN}, or leave it out for the training context"),
            ));
        }
        if let Some(asked) = self.n_ctx.filter(|n| *n > N_CTX_MAX) {
            let what = format!("a context of {asked} tokens is larger than that of any LLaMA model ({N_CTX_MAX})");
            return Err(Failure::input(Code::CtxSize, what, "leave -c out for the training context"));
        }
        if self.flash_attn == FlashAttn::Off && self.type_v.is_quantized() {
            return Err(Failure::input(
                Code::CacheType,
                format!("--cache-type-v {} needs flash attention, which --flash-attn off forbids", self.type_v.name()),
                "remove --flash-attn off, or use --cache-type-v f16",
            ));
        }
        Ok(self)
    }

    /// Refuses a context size above the `trained` tokens that the model was trained for.
    pub(crate) fn check_trained_context(&self, trained: u32) -> Result<(), Failure> {
        let Some(asked) = self.n_ctx.filter(|asked| *asked > trained) else { return Ok(()) };
        let what =
            format!("a context of {asked} tokens is larger than the {trained} tokens that the model was trained for");
        Err(Failure::input(Code::CtxSize, what, format!("give -c {trained} or less")))
    }
}

/// Flash attention; `auto` uses it if the device has a kernel for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum FlashAttn {
    /// Always.
    On,
    /// Never.
    Off,
    /// If the device has a kernel for it.
    #[default]
    Auto,
}

impl FlashAttn {
    /// Its name on the command line, the same as in llama.cpp.
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

/// How threads are spread over NUMA nodes (sockets). No effect on a machine with one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Numa {
    /// The operating system decides.
    #[default]
    Off,
    /// Evenly over all nodes.
    Distribute,
    /// On the node where the program was started.
    Isolate,
    /// numactl, with which the program was started, decides.
    Numactl,
}

impl Numa {
    /// llama.cpp's strategy; `None` for [`Numa::Off`].
    pub(super) fn strategy(self) -> Option<NumaStrategy> {
        match self {
            Self::Off => None,
            Self::Distribute => Some(NumaStrategy::DISTRIBUTE),
            Self::Isolate => Some(NumaStrategy::ISOLATE),
            Self::Numactl => Some(NumaStrategy::NUMACTL),
        }
    }
}

/// Whether the weights are repacked for the CPU's kernels (llama.cpp's CPU_REPACK and AMX buffers).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Repack {
    /// Always: fastest for one sequence at a time.
    On,
    /// Never: often faster for long prompts and many sequences, and needs less memory.
    Off,
    /// On for one sequence; for several, a short benchmark decides.
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

/// Types of the KV cache.
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
    /// Its name on the command line, the same as in llama.cpp.
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

    /// Returns the values in a block, and the bytes of a block.
    pub(crate) fn block(self) -> (u64, u64) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q8_0 => (32, 34),
            Self::Q5_0 => (32, 22),
            Self::Q4_0 => (32, 18),
        }
    }

    pub(super) fn is_quantized(self) -> bool {
        self.block().0 > 1
    }

    /// The type of its tensors.
    pub(super) fn tensor_type(self) -> GgmlType {
        match self {
            Self::F32 => GgmlType::F32,
            Self::F16 => GgmlType::F16,
            Self::Bf16 => GgmlType::BF16,
            Self::Q8_0 => GgmlType::Q8_0,
            Self::Q5_0 => GgmlType::Q5_0,
            Self::Q4_0 => GgmlType::Q4_0,
        }
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
    use super::{CacheType, EngineSettings, FlashAttn};
    use crate::error::Code;

    #[test]
    fn a_quantized_v_cache_needs_flash_attention() {
        let quantized = EngineSettings { type_v: CacheType::Q8_0, ..EngineSettings::default() };
        assert!(quantized.clone().check().is_ok());
        let refused = EngineSettings { flash_attn: FlashAttn::Off, ..quantized }.check();
        assert_eq!(refused.map_err(|failure| failure.code).err(), Some(Code::CacheType));
    }

    #[test]
    fn impossible_context_sizes_are_refused() {
        for n_ctx in [0, 255, (16 << 20) + 1, u32::MAX] {
            let refused = EngineSettings { n_ctx: Some(n_ctx), ..EngineSettings::default() }.check();
            assert_eq!(refused.map_err(|failure| failure.code).err(), Some(Code::CtxSize));
        }
    }
}
