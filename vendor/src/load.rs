//! Loading a model with a choice that `llama-cpp-2` does not offer: whether the weights are rearranged for the CPU's
//! kernels. The model itself is `llama-cpp-2`'s.

use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_sys_2 as sys;
use std::ffi::{CStr, c_void};
use std::ptr::NonNull;

/// What `llama_model_params` is to say; everything else is llama.cpp's default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// The vocabulary and the metadata without any weight.
    pub vocab_only: bool,
    /// Layers kept on the GPU, the output layer counting as one.
    pub n_gpu_layers: u32,
    /// Map the file instead of reading it.
    pub mmap: bool,
    /// Keep the weights in memory (`mlock`); llama.cpp only warns in its log where the system does not allow it.
    pub mlock: bool,
    /// Copy the weights of some types into blocks that suit the CPU's kernels (`CPU_REPACK`, `AMX`), instead of computing
    /// with them as the file stores them.
    pub repack: bool,
    /// Put no space before any text, whatever the file says (`tokenizer.ggml.add_space_prefix`).
    pub no_space_prefix: bool,
}

/// Has llama.cpp load the file at `path`. `progress` is told the part that is loaded (0 to 1) and answers whether to go on.
/// `None`: it could not, or was not to go on; the reason is in the [`log`](crate::log).
pub fn load(_: &LlamaBackend, path: &CStr, how: Load, progress: &mut dyn FnMut(f32) -> bool) -> Option<LlamaModel> {
    type Progress<'a> = &'a mut dyn FnMut(f32) -> bool;
    unsafe extern "C" fn tell(part: f32, progress: *mut c_void) -> bool {
        // SAFETY: `load` below passes a pointer to a `Progress` that outlives the call, and uses it for nothing else.
        let progress = unsafe { &mut *progress.cast::<Progress<'_>>() };
        progress(part)
    }
    let mut progress: Progress<'_> = progress;
    // SAFETY: no arguments; the result is a plain struct.
    let mut params = unsafe { sys::llama_model_default_params() };
    params.vocab_only = how.vocab_only;
    params.n_gpu_layers = i32::try_from(how.n_gpu_layers).unwrap_or(i32::MAX);
    params.load_mode = match (how.mmap, how.mlock) {
        (true, true) => sys::LLAMA_LOAD_MODE_MMAP_MLOCK,
        (true, false) => sys::LLAMA_LOAD_MODE_MMAP,
        (false, true) => sys::LLAMA_LOAD_MODE_MLOCK,
        (false, false) => sys::LLAMA_LOAD_MODE_NONE,
    };
    params.use_extra_bufts = how.repack;
    let overrides = no_space_prefix();
    if how.no_space_prefix {
        params.kv_overrides = overrides.as_ptr();
    }
    params.progress_callback = Some(tell);
    params.progress_callback_user_data = (&raw mut progress).cast::<c_void>();
    // SAFETY: the path is a C string, the parameters are llama.cpp's own with plain values changed, and the overrides and the
    // callback's data live until the call returns (llama.cpp calls back from this thread and keeps nothing). That a backend is there is
    // what the first argument proves.
    let model = NonNull::new(unsafe { sys::llama_model_load_from_file(path.as_ptr(), params) })?;
    const { assert!(size_of::<LlamaModel>() == size_of::<NonNull<sys::llama_model>>()) };
    // SAFETY: at the pinned version `LlamaModel` is `repr(transparent)` over `Ptr<llama_model>`, which is `repr(transparent)`
    // over `NonNull<llama_model>` (src/model.rs, src/ptr.rs). It is made of such a pointer in `load_from_file` there, and
    // owns it, as this one does from here on.
    Some(unsafe { std::mem::transmute::<NonNull<sys::llama_model>, LlamaModel>(model) })
}

/// The override of one key of the file, and the entry without a key that ends the list.
fn no_space_prefix() -> [sys::llama_model_kv_override; 2] {
    const KEY: &[u8] = b"tokenizer.ggml.add_space_prefix";
    // SAFETY: a struct of numbers and arrays of numbers, for which all zeros is a value: a key of no length, and `false`.
    let mut all: [sys::llama_model_kv_override; 2] = unsafe { std::mem::zeroed() };
    all[0].tag = sys::LLAMA_KV_OVERRIDE_TYPE_BOOL;
    for (to, from) in all[0].key.iter_mut().zip(KEY) {
        *to = from.cast_signed();
    }
    all
}
