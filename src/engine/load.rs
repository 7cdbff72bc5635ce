//! Loads the weights with llama.cpp. With layers on GPUs, a context is tried right away, because only then all memory of
//! the devices is used. Without a number of layers from the user, fewer layers are tried if a device has too little memory.

use super::backend::backend;
use super::devices::{Usable, shown};
use super::gguf_preflight::Preflight;
use super::gpu_settings::{GpuLayers, SplitMode};
use super::inner_context::{self, Shape};
use super::memory_plan::KvPlan;
use super::offload_plan::{self, Demand, Placement};
use super::repack;
use super::settings::{EngineSettings, N_CTX_MIN, N_SLOTS_MAX, Repack};
use super::vocab::Rules;
use crate::error::{Code, Failure};
use crate::platform::Available;
use crate::sanitize::one_line;
use llama_cpp_2::model::LlamaModel;
use llama_ext::devices::Use;
use llama_ext::load::{LoadOptions, Offload};
use std::ffi::CString;
use std::path::Path;

/// Tokens of a trial where a device is nearly full: every context holds them.
const TRIAL_TOKENS: u16 = 256;
const _: () = assert!(TRIAL_TOKENS as u32 <= N_CTX_MIN);

/// Weights in memory, and how they were loaded.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) inner: LlamaModel,
    pub(super) kv_plan: KvPlan,
    pub(super) repacked: bool,
    pub(super) placement: Placement,
    /// Memory used of each device; empty without layers on devices.
    pub(super) used: Vec<Use>,
    /// What the user should know.
    pub(super) notes: Vec<String>,
}

/// What is loaded, and with how many threads it is run.
pub(super) struct Job<'a> {
    pub(super) header: &'a Preflight,
    pub(super) settings: &'a EngineSettings,
    pub(super) devices: &'a [Usable],
    pub(super) n_slots: Option<u32>,
    pub(super) n_threads: u32,
    pub(super) available: &'a Available,
}

/// Loads the weights. `progress` is called with the loaded fraction; if it returns false, loading stops with the error
/// `INTERRUPTED`.
pub(super) fn load(job: &Job<'_>, mut progress: impl FnMut(f32) -> bool) -> Result<Loaded, Failure> {
    let Job { header, settings, devices, n_slots, n_threads, available } = *job;
    let demand = Demand { dims: &header.dims, sizes: &header.sizes, settings };
    let (mut most, mut refused) = (u32::MAX, None);
    loop {
        let (mut kv_plan, placement) = offload_plan::plan(&demand, n_slots, available, devices, most)?;
        let n_layers = placement.n_layers();
        let repacked = match (settings.repack, n_layers) {
            // With layers on a GPU, it also computes long prompts of the other layers, from weights as the file has them.
            (Repack::Auto, 1..) => false,
            _ => {
                repack::decide(settings.repack, header.main_type, header.dims.tensor_bytes, kv_plan.n_slots, n_threads)
            }
        };
        kv_plan.n_ahead = repack::n_ahead(repacked, kv_plan.n_slots);
        kv_plan.n_kept = settings.n_kept.min(N_SLOTS_MAX - kv_plan.n_slots - kv_plan.n_ahead);
        match attempt(job, &kv_plan, &placement, repacked, &mut progress)? {
            Attempt::Done(inner, used) => {
                let notes = match refused {
                    None => note(&demand, &placement, devices),
                    Some(refused) => {
                        Some(format!("{refused}; {} there now", crate::table::count(n_layers, "is", "are")))
                    }
                };
                let notes = notes.into_iter().collect();
                return Ok(Loaded { inner, kv_plan, repacked, placement, used, notes });
            }
            Attempt::NoMemory(why) if settings.gpu.layers == GpuLayers::Auto => {
                most = n_layers - (n_layers / 8).max(1).min(n_layers);
                let count = crate::table::count(n_layers, "layer", "layers");
                refused.get_or_insert_with(|| format!("{count} did not fit on the GPU after all ({})", one_line(&why)));
            }
            Attempt::NoMemory(why) => {
                let names: Vec<String> = devices.iter().map(|one| shown(&one.device)).collect();
                let what = format!("{n_layers} layers do not fit on {}: {}", names.join(", "), one_line(&why));
                return Err(Failure::machine(Code::Memory, what, "give a smaller -ngl, or leave it out"));
            }
        }
    }
}

/// Returns a note if some layers are on the CPU although the user did not choose that.
fn note(demand: &Demand<'_>, placement: &Placement, devices: &[Usable]) -> Option<String> {
    let (n_layers, all) = (placement.n_layers(), demand.n_layers());
    if devices.is_empty() || demand.settings.gpu.layers != GpuLayers::Auto || n_layers == all {
        return None;
    }
    let names: Vec<String> = devices.iter().map(|one| shown(&one.device)).collect();
    let room: u64 = devices.iter().map(|one| one.budget).sum();
    let where_else = if n_layers == 0 { "everything runs on the CPU" } else { "the rest runs on the CPU" };
    Some(format!(
        "{n_layers} of {all} layers fit on {}, where {} of memory may be used; {where_else}",
        names.join(", "),
        crate::table::bytes(room)
    ))
}

enum Attempt {
    Done(LlamaModel, Vec<Use>),
    /// A device has too little memory, and llama.cpp's reason.
    NoMemory(String),
}

/// Loads the weights with this placement. With layers on devices, also creates a context and computes a few tokens.
fn attempt(
    job: &Job<'_>,
    kv_plan: &KvPlan,
    placement: &Placement,
    repacked: bool,
    progress: &mut impl FnMut(f32) -> bool,
) -> Result<Attempt, Failure> {
    let Job { header, settings, devices, n_threads, .. } = *job;
    let offload = if placement.n_layers() == 0 {
        Offload::default()
    } else {
        Offload {
            devices: devices.iter().map(|one| one.device.index).collect(),
            layers: placement.layers.clone(),
            by_rows: settings.gpu.split == SplitMode::Row,
            main: settings.gpu.main,
            no_host_memory: repacked,
        }
    };
    let how = LoadOptions {
        vocab_only: false,
        mmap: settings.mmap,
        mlock: settings.mlock,
        repack: repacked,
        offload,
        ..options(&header.rules)
    };
    let model = match weights(&header.path, &how, &mut *progress) {
        Ok(model) => model,
        Err(failure) if placement.n_layers() > 0 && is_about_memory(&failure.what) => {
            return Ok(Attempt::NoMemory(llama_ext::log::tail()));
        }
        Err(failure) => return Err(failure),
    };
    if settings.mlock && llama_ext::log::tail().contains("mlock") {
        return Err(Failure::machine(
            Code::Mlock,
            format!("the weights cannot be kept in memory: {}", llama_ext::log::tail()),
            "raise `ulimit -l`, or leave --mlock out",
        ));
    }
    if placement.n_layers() == 0 {
        return Ok(Attempt::Done(model, Vec::new()));
    }
    // Where a device is nearly full, a whole micro-batch shows whether all of it fits.
    let tight = devices.iter().zip(&placement.device_bytes).any(|(one, needed)| *needed > one.budget / 4 * 3);
    let n_tokens = if tight { TRIAL_TOKENS } else { 1 };
    let params = inner_context::params(settings, n_threads, &Shape::generating(kv_plan, settings.flash_attn));
    let tried = llama_ext::devices::try_context(&model, &params, n_tokens, &how.offload.devices);
    if !progress(1.0) {
        return Err(Failure::interrupted());
    }
    Ok(match tried {
        Ok(used) => Attempt::Done(model, used),
        Err(why) => Attempt::NoMemory(why.to_string()),
    })
}

/// Whether llama.cpp's reason is a lack of memory. Other reasons do not depend on the number of layers.
fn is_about_memory(reason: &str) -> bool {
    let reason = reason.to_ascii_lowercase();
    ["alloc", "memory", "buffer"].iter().any(|word| reason.contains(word))
}

/// Returns the options to load a vocabulary with these rules.
pub(super) fn options(rules: &Rules) -> LoadOptions {
    LoadOptions {
        vocab_only: true,
        mmap: true,
        no_space_prefix: rules.spaces.is_some(),
        eos: rules.eos,
        ..LoadOptions::default()
    }
}

/// Loads a file with llama.cpp, after its header was checked.
pub(super) fn weights(
    path: &Path,
    how: &LoadOptions,
    mut progress: impl FnMut(f32) -> bool,
) -> Result<LlamaModel, Failure> {
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
