//! Loads a GGUF file. The path, the header (`gguf_preflight.rs`) and the memory (`memory_plan.rs`) are checked before
//! llama.cpp opens the file.

use super::backend::start;
use super::context::Context;
use super::devices::{self, Device, Usable};
use super::forecast::Forecast;
use super::gguf_preflight::{self, Preflight};
use super::load::{self, Job, Loaded};
use super::memory_plan::KvPlan;
use super::model_dims::ModelDims;
use super::offload_plan::Placement;
use super::scoring::ScoringContext;
use super::settings::{EngineSettings, FlashAttn, N_SLOTS_MAX};
use super::threads::default_threads;
use super::vocab::{Bos, Rules, Vocab};
use crate::error::{Code, Failure};
use crate::interrupt::Interrupt;
use crate::platform::available_memory;
use llama_cpp_2::model::LlamaModel;
use llama_ext::devices::{AttentionShape, Use};
use llama_ext::observe::Observer;
use std::path::{Path, PathBuf};

/// A model whose weights are in memory.
#[derive(Debug)]
pub(crate) struct Model {
    loaded: Loaded,
    path: PathBuf,
    dims: ModelDims,
    settings: EngineSettings,
    /// Flash attention, decided if devices are used.
    flash_attn: FlashAttn,
    /// The devices with layers.
    devices: Vec<Usable>,
    n_threads: u32,
    rules: Rules,
}

impl Model {
    /// Loads the file at `path` for `n_slots` sequences, or for as many as the available memory suggests. With several
    /// slots, repacking is benchmarked first. `progress` is called with the loaded fraction (0 to 1); if it returns
    /// false, loading stops with the error `INTERRUPTED`.
    pub(crate) fn load(
        path: &Path,
        settings: EngineSettings,
        n_slots: Option<u32>,
        progress: impl FnMut(f32) -> bool,
    ) -> Result<Self, Failure> {
        if let Some(asked) = n_slots.filter(|n| !(1..=N_SLOTS_MAX).contains(n)) {
            let what = format!("{asked} slots were asked for");
            return Err(Failure::input(Code::Slots, what, format!("give 1 to {N_SLOTS_MAX}")));
        }
        start(settings.numa)?;
        let mut header = gguf_preflight::check(path)?;
        header.rules.set_bos(settings.bos).map_err(|failure| failure.at(path))?;
        let devices = devices::usable(&settings.gpu)?;
        let available = available_memory().without(settings.reserved);
        let n_threads = settings.n_threads.unwrap_or_else(|| default_threads(header.dims.tensor_bytes));
        let on_devices =
            EngineSettings { flash_attn: flash_attn(&settings, &header.dims, &devices), ..settings.clone() };
        let job = Job {
            header: &header,
            settings: &on_devices,
            devices: &devices,
            n_slots,
            n_threads,
            available: &available,
        };
        let loaded = load::load(&job, progress).map_err(|failure| match failure.code {
            Code::Interrupted | Code::Mlock => failure,
            _ => failure.at(path),
        })?;
        let Preflight { dims, rules, .. } = header;
        let n_layers = loaded.placement.n_layers();
        let uses_gpu = n_layers > 0;
        let flash_attn = if uses_gpu { on_devices.flash_attn } else { settings.flash_attn };
        let devices = if uses_gpu { devices } else { Vec::new() };
        Ok(Self { path: path.to_owned(), dims, settings, flash_attn, devices, loaded, n_threads, rules })
    }

    /// Forecasts the memory of a run with the file at `path`, without loading it; see [`Forecast::new`].
    pub(crate) fn forecast(path: &Path, settings: &EngineSettings, n_slots: u32) -> Result<Forecast, Failure> {
        let Preflight { dims, sizes, .. } = gguf_preflight::check(path)?;
        Forecast::new(&dims, &sizes, settings, n_slots).map_err(|failure| failure.at(path))
    }

    /// Creates the context: KV cache and compute buffers for the slots that the model was loaded for. `interrupt` stops
    /// a running computation.
    pub(crate) fn context(&self, interrupt: &Interrupt) -> Result<Context<'_>, Failure> {
        let ours = if self.n_gpu_layers() <= self.dims.n_layer {
            // Kernels of this program compute the layers on the CPU. Long prompts of these are left to a GPU with its own
            // memory, if there is one.
            let kernels = llama_ext::accel::register();
            let gpu = self.devices.iter().any(|one| !one.shares_main_memory());
            llama_ext::devices::leave_large_products(gpu && !self.loaded.repacked);
            self.flash_attn != FlashAttn::Off && kernels.attention
        } else {
            false
        };
        // Force flash attention on: `auto` only checks llama.cpp's own kernels, not ours.
        let flash_attn = if ours { FlashAttn::On } else { self.flash_attn };
        let settings = EngineSettings { flash_attn, ..self.settings.clone() };
        Context::new(&self.loaded.inner, &settings, self.n_threads, self.loaded.kv_plan, interrupt.clone())
    }

    /// Creates a context that computes the logits of sequences of up to `n_ctx` tokens. `observer` observes its
    /// computations.
    pub(crate) fn scoring_context(
        &self,
        n_ctx: usize,
        observer: Option<Box<dyn Observer>>,
        interrupt: &Interrupt,
    ) -> Result<ScoringContext<'_>, Failure> {
        ScoringContext::new(&self.loaded.inner, &self.settings, self.n_threads, n_ctx, observer, interrupt.clone())
    }

    /// The path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its dimensions.
    pub(crate) fn dims(&self) -> &ModelDims {
        &self.dims
    }

    /// The settings that it was loaded with.
    pub(crate) fn settings(&self) -> &EngineSettings {
        &self.settings
    }

    /// Number of compute threads.
    pub(crate) fn n_threads(&self) -> u32 {
        self.n_threads
    }

    /// Whether llama.cpp repacked the weights for the CPU's kernels.
    pub(crate) fn repacked(&self) -> bool {
        self.loaded.repacked
    }

    /// Layers on GPUs; the output layer counts as one.
    pub(crate) fn n_gpu_layers(&self) -> u32 {
        self.loaded.placement.n_layers()
    }

    /// The devices with layers.
    pub(crate) fn on_devices(&self) -> Vec<OnDevice<'_>> {
        let Placement { layers, device_bytes, .. } = &self.loaded.placement;
        let parts = self.devices.iter().zip(layers.iter().zip(device_bytes)).zip(&self.loaded.used);
        let parts = parts.map(|((one, (n_layers, planned)), used)| OnDevice {
            device: &one.device,
            n_layers: *n_layers,
            planned: *planned,
            used: *used,
        });
        parts.filter(|part| part.n_layers > 0).collect()
    }

    /// What the user should know about how it was loaded.
    pub(crate) fn notes(&self) -> &[String] {
        &self.loaded.notes
    }

    /// Context size of one sequence, in tokens.
    pub(crate) fn n_ctx(&self) -> u32 {
        self.loaded.kv_plan.n_ctx
    }

    /// Size of the KV cache.
    pub(crate) fn kv_plan(&self) -> KvPlan {
        self.loaded.kv_plan
    }

    /// The vocabulary.
    pub(crate) fn vocab(&self) -> Vocab<'_> {
        Vocab::new(&self.loaded.inner, &self.rules)
    }

    /// The chat template that the file carries.
    pub(crate) fn chat_template(&self) -> Option<String> {
        self.loaded.inner.meta_val_str("tokenizer.chat_template").ok()
    }

    /// The name of the model in the file.
    pub(crate) fn name(&self) -> Option<String> {
        self.loaded.inner.meta_val_str("general.name").ok()
    }

    /// Number of parameters.
    pub(crate) fn n_params(&self) -> u64 {
        self.loaded.inner.n_params()
    }
}

/// The part of a model on a device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OnDevice<'m> {
    pub(crate) device: &'m Device,
    pub(crate) n_layers: u32,
    /// Bytes that were planned.
    pub(crate) planned: u64,
    /// Bytes that the model and one context use.
    pub(crate) used: Use,
}

/// Returns whether and how flash attention is used if layers are on `devices`. llama.cpp's own check does not know our
/// kernels and `--no-kv-offload`, so `auto` is decided here: on if each device has a kernel.
fn flash_attn(settings: &EngineSettings, dims: &ModelDims, devices: &[Usable]) -> FlashAttn {
    if settings.flash_attn != FlashAttn::Auto || devices.is_empty() {
        return settings.flash_attn;
    }
    let shape = AttentionShape {
        dim: dims.head_dim,
        n_head: dims.n_head,
        n_head_kv: dims.n_head_kv,
        k_type: settings.type_k.tensor_type(),
        v_type: settings.type_v.tensor_type(),
    };
    let all = || devices.iter().all(|one| llama_ext::devices::attends(&one.device, shape));
    if settings.type_v.is_quantized() || !settings.gpu.kv_offload || all() { FlashAttn::On } else { FlashAttn::Off }
}

/// Returns the bytes of memory that the file at `path` needs for one context, and the context size that it was trained
/// for.
pub(crate) fn memory_forecast(path: &Path, settings: &EngineSettings) -> Result<(u64, u32), Failure> {
    let dims = gguf_preflight::check(path)?.dims;
    let n_ctx = settings.n_ctx.unwrap_or(dims.n_ctx_train).min(dims.n_ctx_train);
    Ok((dims.memory_needed(settings, n_ctx), dims.n_ctx_train))
}

/// The vocabulary and the metadata of a model, without its weights.
#[derive(Debug)]
pub(crate) struct VocabFile(LlamaModel, Rules);

impl VocabFile {
    /// Opens the file at `path`. `bos`: whether prompts begin with BOS.
    pub(crate) fn open(path: &Path, bos: Bos) -> Result<Self, Failure> {
        let (first, mut rules) = gguf_preflight::check_vocabulary(path)?;
        rules.set_bos(bos).map_err(|failure| failure.at(path))?;
        load::weights(&first, &load::options(&rules), |_| true).map(|inner| Self(inner, rules))
    }

    /// The vocabulary.
    pub(crate) fn vocab(&self) -> Vocab<'_> {
        Vocab::new(&self.0, &self.1)
    }

    /// Context size that the model was trained for, in tokens.
    pub(crate) fn n_ctx_train(&self) -> Option<u32> {
        self.0.meta_val_str("llama.context_length").ok()?.parse().ok()
    }

    /// The chat template that the file carries.
    pub(crate) fn chat_template(&self) -> Option<String> {
        self.0.meta_val_str("tokenizer.chat_template").ok()
    }
}
