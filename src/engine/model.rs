//! Loading a GGUF: the path, the header and the memory are checked before llama.cpp sees the file.

use super::available::available_memory;
use super::memory::{Cache, Shape};
use super::settings::{N_SLOTS_MAX, Numa, Settings};
use super::threads::default_threads;
use super::vocab::Rules;
use super::{Context, Vocab, devices, header, layout};
use crate::error::{Code, Failure};
use crate::interrupt::Interrupt;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_ext::load::Load;
use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

/// A model whose weights are in memory.
#[derive(Debug)]
pub(crate) struct Model {
    pub(super) inner: LlamaModel,
    path: PathBuf,
    shape: Shape,
    settings: Settings,
    cache: Cache,
    n_threads: u32,
    repack: bool,
    rules: Rules,
}

impl Model {
    /// Loads the file at `path` for `n_slots` conversations at once, or as many as suit the memory; with several, how the
    /// weights lie is measured first. `progress` is told the part that is loaded (0 to 1) and answers whether to go on; an
    /// answer of no is an error with the code `INTERRUPTED`.
    pub(crate) fn load(
        path: &Path,
        settings: Settings,
        n_slots: Option<u32>,
        progress: impl FnMut(f32) -> bool,
    ) -> Result<Self, Failure> {
        if let Some(asked) = n_slots.filter(|n| !(1..=N_SLOTS_MAX).contains(n)) {
            let what = format!("{asked} slots were asked for");
            return Err(Failure::input(Code::Slots, what, format!("give 1 to {N_SLOTS_MAX}")));
        }
        start(settings.numa)?;
        if settings.n_gpu_layers > 0 && devices::gpus()?.is_empty() {
            let fix = "leave -ngl out, or build with --features cuda, metal or vulkan";
            return Err(Failure::input(Code::Gpu, "--gpu-layers is given, and this build sees no GPU", fix));
        }
        let (shape, kind) = header::check(path)?;
        let mut cache = shape.cache(&settings, n_slots, &available_memory()).map_err(|failure| failure.at(path))?;
        let n_threads = settings.n_threads.unwrap_or_else(|| default_threads(shape.weights));
        let repack = layout::repacked(settings.repack, kind, shape.weights, cache.n_slots, n_threads);
        cache.n_ahead = layout::ahead(repack, cache.n_slots);
        let Settings { n_gpu_layers, mmap, mlock, .. } = settings;
        let rules = header::rules(path)?;
        let no_space_prefix = rules.spaces.is_some();
        let how = Load { vocab_only: false, n_gpu_layers, mmap, mlock, repack, no_space_prefix };
        let inner = load(path, how, progress)?;
        if mlock && llama_ext::log::tail().contains("mlock") {
            return Err(Failure::machine(
                Code::Mlock,
                format!("the weights cannot be kept in memory: {}", llama_ext::log::tail()),
                "raise `ulimit -l`, or leave --mlock out",
            ));
        }
        Ok(Self { inner, path: path.to_owned(), shape, settings, cache, n_threads, repack, rules })
    }

    /// The context of this model: KV cache and scratch buffers for the slots it was loaded for. A request to stop ends a
    /// computation in its middle.
    pub(crate) fn context(&self, interrupt: &Interrupt) -> Result<Context<'_>, Failure> {
        Context::new(self, &self.settings, self.n_threads(), self.cache, interrupt.clone())
    }

    /// Where it was loaded from.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its dimensions.
    pub(crate) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// How the engine runs it.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Threads that compute.
    pub(crate) fn n_threads(&self) -> u32 {
        self.n_threads
    }

    /// Whether llama.cpp was asked to rearrange the weights for the CPU's kernels.
    pub(crate) fn repacked(&self) -> bool {
        self.repack
    }

    /// Window of one conversation in tokens.
    pub(crate) fn n_ctx(&self) -> u32 {
        self.cache.n_ctx
    }

    /// How the KV cache is laid out.
    pub(crate) fn cache(&self) -> Cache {
        self.cache
    }

    /// The vocabulary.
    pub(crate) fn vocab(&self) -> Vocab<'_> {
        Vocab::new(self.inner.vocab(), &self.rules)
    }

    /// The chat template that the file carries.
    pub(crate) fn chat_template(&self) -> Option<String> {
        self.inner.meta_val_str("tokenizer.chat_template").ok()
    }

    /// What the file calls the model.
    pub(crate) fn name(&self) -> Option<String> {
        self.inner.meta_val_str("general.name").ok()
    }

    /// Number of parameters.
    pub(crate) fn n_params(&self) -> u64 {
        self.inner.n_params()
    }
}

/// The vocabulary and the metadata of a model, without its weights.
#[derive(Debug)]
pub(crate) struct VocabFile(LlamaModel, Rules);

impl VocabFile {
    /// Opens the file at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        header::check_vocabulary(path)?;
        let rules = header::rules(path)?;
        let no_space_prefix = rules.spaces.is_some();
        let how = Load { vocab_only: true, n_gpu_layers: 0, mmap: true, mlock: false, repack: false, no_space_prefix };
        load(path, how, |_| true).map(|inner| Self(inner, rules))
    }

    /// The vocabulary.
    pub(crate) fn vocab(&self) -> Vocab<'_> {
        Vocab::new(self.0.vocab(), &self.1)
    }

    /// The window that the model was trained for, in tokens.
    pub(crate) fn n_ctx_train(&self) -> Option<u32> {
        self.0.meta_val_str("llama.context_length").ok()?.parse().ok()
    }

    /// The chat template that the file carries.
    pub(crate) fn chat_template(&self) -> Option<String> {
        self.0.meta_val_str("tokenizer.chat_template").ok()
    }
}

/// Has llama.cpp load the file, whose header was checked.
fn load(path: &Path, how: Load, mut progress: impl FnMut(f32) -> bool) -> Result<LlamaModel, Failure> {
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

/// llama.cpp's global state, made once for the life of the process.
pub(super) fn backend() -> Result<&'static LlamaBackend, Failure> {
    start(Numa::Off)
}

/// The same; whoever comes first says how threads are spread.
fn start(numa: Numa) -> Result<&'static LlamaBackend, Failure> {
    static BACKEND: OnceLock<LlamaBackend> = OnceLock::new();
    static MAKING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = MAKING.lock();
    if let Some(backend) = BACKEND.get() {
        return Ok(backend);
    }
    llama_ext::log::capture(None);
    let backend = numa
        .strategy()
        .map_or_else(LlamaBackend::init, LlamaBackend::init_numa)
        .map_err(|err| Failure::engine(Code::Engine, format!("llama.cpp does not start: {err}"), "report this"))?;
    Ok(BACKEND.get_or_init(|| backend))
}
