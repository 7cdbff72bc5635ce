//! Aborts a computation. llama.cpp calls a callback before every node of its graph; `llama-cpp-2` cannot set this
//! callback.

use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_sys_2 as sys;
use std::ffi::c_void;

/// The C struct, which `llama-cpp-2` wraps in a struct with this one field.
type Raw = sys::llama_context_params;

type ShouldAbort = Box<dyn Fn() -> bool + Send + Sync>;

/// Sets a callback that aborts the computations of the context created from `params`: within a fraction of a
/// millisecond after `should_abort` returns true, on the CPU (other devices do not call it). `llama_decode` then
/// returns 2. Finished ubatches stay in the KV cache, so the caller must truncate its sequences.
///
/// `should_abort` is called often, on a computing thread: it should only load an atomic. It is never freed, because
/// llama.cpp does not report when the last context is freed.
#[must_use]
pub fn abort_when(
    mut params: LlamaContextParams,
    should_abort: impl Fn() -> bool + Send + Sync + 'static,
) -> LlamaContextParams {
    const { assert!(size_of::<LlamaContextParams>() == size_of::<Raw>()) };
    const { assert!(align_of::<LlamaContextParams>() == align_of::<Raw>()) };
    let should_abort: Box<ShouldAbort> = Box::new(Box::new(should_abort));
    let should_abort: &'static ShouldAbort = Box::leak(should_abort);
    // SAFETY: at the pinned version `LlamaContextParams` has one field, a `Raw` (src/context/params.rs). The struct is
    // not larger than that field, so the field is at offset 0, and the exclusive borrow makes this the only access.
    // Both written fields are plain C values: a function, and a pointer that is valid until the process ends.
    unsafe {
        let raw = &raw mut params;
        let raw = raw.cast::<Raw>();
        (*raw).abort_callback = Some(call_should_abort);
        (*raw).abort_callback_data = std::ptr::from_ref(should_abort).cast::<c_void>().cast_mut();
    }
    params
}

unsafe extern "C" fn call_should_abort(should_abort: *mut c_void) -> bool {
    // SAFETY: the only pointer ever registered with this function is a leaked `ShouldAbort`, and it is only read.
    let should_abort = unsafe { &*should_abort.cast::<ShouldAbort>() };
    should_abort()
}
