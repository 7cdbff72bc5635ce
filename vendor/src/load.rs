//! Loads a model with options that `llama-cpp-2` does not have: whether to repack the weights, and the load mode. The
//! result is a `llama-cpp-2` model.

use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_sys_2 as sys;
use std::ffi::{CStr, c_void};
use std::ptr::NonNull;

/// Options of `llama_model_params`. All others keep llama.cpp's defaults.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadOptions {
    /// Load the vocabulary and the metadata without the weights.
    pub vocab_only: bool,
    /// The layers on GPUs.
    pub offload: Offload,
    /// Map the file instead of reading it.
    pub mmap: bool,
    /// Lock the weights in memory (`mlock`). Where the system does not allow it, llama.cpp only logs a warning.
    pub mlock: bool,
    /// Repack the weights of some types for the CPU's kernels (`CPU_REPACK`, `AMX`) instead of computing with them as
    /// the file stores them.
    pub repack: bool,
    /// Add no space before text; this overrides the file's `tokenizer.ggml.add_space_prefix`.
    pub no_space_prefix: bool,
    /// Use this token as EOS; this overrides the file's `tokenizer.ggml.eos_token_id`.
    pub eos: Option<u32>,
}

/// The layers on GPUs. The default is none: then llama.cpp does not use a GPU at all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Offload {
    /// Numbers of the devices in ggml's list ([`crate::devices::Device::index`]).
    pub devices: Vec<usize>,
    /// Layers on each device, in the order of the devices. The layers of the model are used up from its end: the output
    /// layer is the last layer of the last device.
    pub layers: Vec<u32>,
    /// Split each matrix by rows, in proportion to the layers, instead of splitting the layers.
    pub by_rows: bool,
    /// With `by_rows`, the position in `devices` of the device for intermediate results.
    pub main: usize,
    /// Do not put the weights that stay in main memory into memory for transfers to the first device. Only then can they be
    /// repacked.
    pub no_host_memory: bool,
}

/// Loads the model in the file at `path`. `progress` receives the loaded fraction (0 to 1) and returns false to cancel.
/// Returns `None` on failure or when cancelled; the reason is in the [`log`](crate::log).
pub fn load(
    _: &LlamaBackend,
    path: &CStr,
    options: &LoadOptions,
    progress: &mut dyn FnMut(f32) -> bool,
) -> Option<LlamaModel> {
    type Progress<'a> = &'a mut dyn FnMut(f32) -> bool;
    unsafe extern "C" fn call_progress(fraction: f32, progress: *mut c_void) -> bool {
        // SAFETY: `load` below passes a pointer to a `Progress` that outlives the call, and uses it for nothing else.
        let progress = unsafe { &mut *progress.cast::<Progress<'_>>() };
        progress(fraction)
    }
    let mut progress: Progress<'_> = progress;
    // SAFETY: no arguments; the result is a plain struct.
    let mut params = unsafe { sys::llama_model_default_params() };
    params.vocab_only = options.vocab_only;
    let offload = &options.offload;
    let mut devices = device_list(&offload.devices);
    // SAFETY: no arguments.
    let mut shares = vec![0.0_f32; unsafe { sys::llama_max_devices() }];
    for (share, layers) in shares.iter_mut().zip(&offload.layers) {
        *share = *layers as f32;
    }
    params.devices = devices.as_mut_ptr();
    params.n_gpu_layers = i32::try_from(offload.layers.iter().sum::<u32>()).unwrap_or(i32::MAX);
    params.tensor_split = shares.as_ptr();
    params.split_mode = if offload.by_rows { sys::LLAMA_SPLIT_MODE_ROW } else { sys::LLAMA_SPLIT_MODE_LAYER };
    params.main_gpu = i32::try_from(offload.main).unwrap_or(0);
    params.no_host = offload.no_host_memory;
    params.load_mode = match (options.mmap, options.mlock) {
        (true, true) => sys::LLAMA_LOAD_MODE_MMAP_MLOCK,
        (true, false) => sys::LLAMA_LOAD_MODE_MMAP,
        (false, true) => sys::LLAMA_LOAD_MODE_MLOCK,
        (false, false) => sys::LLAMA_LOAD_MODE_NONE,
    };
    params.use_extra_bufts = options.repack;
    let overrides = overrides(options);
    params.kv_overrides = overrides.as_ptr();
    params.progress_callback = Some(call_progress);
    params.progress_callback_user_data = (&raw mut progress).cast::<c_void>();
    // SAFETY: the path is a C string, the parameters are llama.cpp's defaults with plain values changed. The
    // overrides, the callback's data, the devices (a list that ends with NULL) and the shares (one for each possible
    // device) live until the call returns: llama.cpp calls back from this thread, copies the shares and keeps no pointer. The first argument of this function proves that the backend is initialized.
    let model = NonNull::new(unsafe { sys::llama_model_load_from_file(path.as_ptr(), params) })?;
    const { assert!(size_of::<LlamaModel>() == size_of::<NonNull<sys::llama_model>>()) };
    // SAFETY: at the pinned version `LlamaModel` is `repr(transparent)` over `Ptr<llama_model>`, which is
    // `repr(transparent)` over `NonNull<llama_model>` (src/model.rs, src/ptr.rs). Its `load_from_file` makes it from
    // such a pointer and gives it ownership, as is done here.
    Some(unsafe { std::mem::transmute::<NonNull<sys::llama_model>, LlamaModel>(model) })
}

/// Returns ggml's pointers to devices, and the NULL that ends the list. Numbers that ggml does not have are left out.
fn device_list(numbers: &[usize]) -> Vec<sys::ggml_backend_dev_t> {
    // SAFETY: no arguments.
    let count = unsafe { sys::ggml_backend_dev_count() };
    let known = numbers.iter().filter(|number| **number < count);
    // SAFETY: the number is below the count, which is all that ggml asserts. Devices live until the process ends.
    let mut all: Vec<_> = known.map(|number| unsafe { sys::ggml_backend_dev_get(*number) }).collect();
    all.push(std::ptr::null_mut());
    all
}

/// Returns the overrides of `options`, and the entry with an empty key that ends the list.
fn overrides(options: &LoadOptions) -> Vec<sys::llama_model_kv_override> {
    let mut all = Vec::new();
    if options.no_space_prefix {
        all.push(entry(b"tokenizer.ggml.add_space_prefix", sys::LLAMA_KV_OVERRIDE_TYPE_BOOL));
    }
    if let Some(eos) = options.eos {
        let mut eos_id = entry(b"tokenizer.ggml.eos_token_id", sys::LLAMA_KV_OVERRIDE_TYPE_INT);
        eos_id.__bindgen_anon_1.val_i64 = i64::from(eos);
        all.push(eos_id);
    }
    all.push(entry(b"", sys::LLAMA_KV_OVERRIDE_TYPE_BOOL));
    all
}

/// Returns an override of `key` with the value 0 or `false`.
fn entry(key: &[u8], tag: sys::llama_model_kv_override_type) -> sys::llama_model_kv_override {
    // SAFETY: a struct of numbers and arrays of numbers, for which all zeros is a valid value: an empty key, and 0.
    let mut entry: sys::llama_model_kv_override = unsafe { std::mem::zeroed() };
    entry.tag = tag;
    for (to, from) in entry.key.iter_mut().zip(key) {
        *to = from.cast_signed();
    }
    entry
}
