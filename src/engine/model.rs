//! Loads a GGUF file. The path, the header (`gguf_preflight.rs`) and the memory (`memory_plan.rs`) are checked before
//! llama.cpp opens the file.

use super::backend::{backend, gpus, start};
use super::context::Context;
use super::gguf_preflight::{self, Preflight};
use super::memory_plan::KvPlan;
use super::model_dims::ModelDims;
use super::repack;
use super::scoring::ScoringContext;
use super::settings::{EngineSettings, N_SLOTS_MAX};
use super::threads::default_threads;
use super::vocab::{Bos, Rules, Vocab};
use crate::error::{Code, Failure};
use crate::interrupt::Interrupt;
use crate::platform::available_memory;
use llama_cpp_2::model::LlamaModel;
use llama_ext::load::LoadOptions;
use llama_ext::observe::Observer;
use std::ffi::CString;
use std::path::{Path, PathBuf};

/// A model whose weights are in memory.
#[derive(Debug)]
pub(crate) struct Model {
    inner: LlamaModel,
    path: PathBuf,
    dims: ModelDims,
    settings: EngineSettings,
    kv_plan: KvPlan,
    n_threads: u32,
    repacked: bool,
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
        if settings.n_gpu_layers > 0 && gpus()?.is_empty() {
            let fix = "leave -ngl out, or build with --features cuda, metal or vulkan";
            return Err(Failure::input(
                Code::Gpu,
                "--gpu-layers needs a GPU backend; none is available in this build",
                fix,
            ));
        }
        let Preflight { dims, main_type, mut rules, path: first } = gguf_preflight::check(path)?;
        rules.set_bos(settings.bos).map_err(|failure| failure.at(path))?;
        let available = available_memory().without(settings.reserved);
        let planned = KvPlan::new(&dims, &settings, n_slots, &available);
        let mut kv_plan = planned.map_err(|failure| failure.at(path))?;
        let n_threads = settings.n_threads.unwrap_or_else(|| default_threads(dims.tensor_bytes));
        let repacked = repack::decide(settings.repack, main_type, dims.tensor_bytes, kv_plan.n_slots, n_threads);
        kv_plan.n_ahead = repack::n_ahead(repacked, kv_plan.n_slots);
        kv_plan.n_kept = settings.n_kept.min(N_SLOTS_MAX - kv_plan.n_slots - kv_plan.n_ahead);
        let EngineSettings { n_gpu_layers, mmap, mlock, .. } = settings;
        let how = LoadOptions { vocab_only: false, n_gpu_layers, mmap, mlock, repack: repacked, ..options(&rules) };
        let inner = load(&first, how, progress)?;
        if mlock && llama_ext::log::tail().contains("mlock") {
            return Err(Failure::machine(
                Code::Mlock,
                format!("the weights cannot be kept in memory: {}", llama_ext::log::tail()),
                "raise `ulimit -l`, or leave --mlock out",
            ));
        }
        Ok(Self { inner, path: path.to_owned(), dims, settings, kv_plan, n_threads, repacked, rules })
    }

    /// Creates the context: KV cache and compute buffers for the slots that the model was loaded for. `interrupt` stops
    /// a running computation.
    pub(crate) fn context(&self, interrupt: &Interrupt) -> Result<Context<'_>, Failure> {
        Context::new(&self.inner, &self.settings, self.n_threads, self.kv_plan, interrupt.clone())
    }

    /// Creates a context that computes the logits of sequences of up to `n_ctx` tokens. `observer` observes its
    /// computations.
    pub(crate) fn scoring_context(
        &self,
        n_ctx: usize,
        observer: Option<Box<dyn Observer>>,
        interrupt: &Interrupt,
    ) -> Result<ScoringContext<'_>, Failure> {
        ScoringContext::new(&self.inner, &self.settings, self.n_threads, n_ctx, observer, interrupt.clone())
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
        self.repacked
    }

    /// Context size of one sequence, in tokens.
    pub(crate) fn n_ctx(&self) -> u32 {
        self.kv_plan.n_ctx
    }

    /// Size of the KV cache.
    pub(crate) fn kv_plan(&self) -> KvPlan {
        self.kv_plan
    }

    /// The vocabulary.
    pub(crate) fn vocab(&self) -> Vocab<'_> {
        Vocab::new(&self.inner, &self.rules)
    }

    /// The chat template that the file carries.
    pub(crate) fn chat_template(&self) -> Option<String> {
        self.inner.meta_val_str("tokenizer.chat_template").ok()
    }

    /// The name of the model in the file.
    pub(crate) fn name(&self) -> Option<String> {
        self.inner.meta_val_str("general.name").ok()
    }

    /// Number of parameters.
    pub(crate) fn n_params(&self) -> u64 {
        self.inner.n_params()
    }
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
        load(&first, options(&rules), |_| true).map(|inner| Self(inner, rules))
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

/// Returns the options to load a vocabulary with these rules.
fn options(rules: &Rules) -> LoadOptions {
    LoadOptions {
        vocab_only: true,
        n_gpu_layers: 0,
        mmap: true,
        mlock: false,
        repack: false,
        no_space_prefix: rules.spaces.is_some(),
        eos: rules.eos,
    }
}

/// Loads a file with llama.cpp, after its header was checked.
fn load(path: &Path, how: LoadOptions, mut progress: impl FnMut(f32) -> bool) -> Result<LlamaModel, Failure> {
    let name = path.to_str().and_then(|name| CString::new(name).ok()).ok_or_else(|| {
        Failure::input(Code::Model, "the path is not UTF-8, which llama.cpp cannot open", "rename the file").at(path)
    })?;
    let mut stopped = false;
    let backend = backend()?;
    llama_ext::log::clear();
    let loaded = llama_ext::load::load(backend, &name, how, &mut |part| {
        stopped |= !progress(part);
        !stopped
    });
    loaded.ok_or_else(|| {
        if stopped {
            return Failure::interrupted();
        }
        let what = format!("llama.cpp cannot load it: {}", llama_ext::log::tail());
        Failure::input(Code::Model, what, "convert the checkpoint again, or verify the file").at(path)
    })
}
