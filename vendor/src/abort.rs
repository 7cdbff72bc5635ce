//! Stopping a computation from outside: llama.cpp asks a callback before every node of its graph, but `llama-cpp-2` does
//! not let a caller set one.

use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_sys_2 as sys;
use std::ffi::c_void;

/// The same as in C, wrapped by `llama-cpp-2` in a struct of this one field.
type Raw = sys::llama_context_params;

type Test = Box<dyn Fn() -> bool + Send + Sync>;

/// Has the context that is made of `params` stop computing as soon as `test` answers true, within a fraction of a
/// millisecond on the CPU (other devices do not ask). `llama_decode` then fails with 2, and what was not computed whole is
/// out of the KV cache again. `test` is asked often and by a thread that computes: it has to be a look at an atomic. It
/// is kept until the process ends, since nothing tells when the last context is gone.
#[must_use]
pub fn stop_when(
    mut params: LlamaContextParams,
    test: impl Fn() -> bool + Send + Sync + 'static,
) -> LlamaContextParams {
    const { assert!(size_of::<LlamaContextParams>() == size_of::<Raw>()) };
    const { assert!(align_of::<LlamaContextParams>() == align_of::<Raw>()) };
    let test: Box<Test> = Box::new(Box::new(test));
    let test: &'static Test = Box::leak(test);
    // SAFETY: at the pinned version `LlamaContextParams` has one field, a `Raw` (src/context/params.rs). The struct is not
    // larger than that field, so the field is at offset 0, and the exclusive borrow makes this the only access. Both
    // fields written are plain C values: a function, and a pointer that is valid for the life of the process.
    unsafe {
        let raw = &raw mut params;
        let raw = raw.cast::<Raw>();
        (*raw).abort_callback = Some(asked);
        (*raw).abort_callback_data = std::ptr::from_ref(test).cast::<c_void>().cast_mut();
    }
    params
}

unsafe extern "C" fn asked(test: *mut c_void) -> bool {
    // SAFETY: the only pointer that was ever registered with this function is a leaked `Test`, and it is only read.
    let test = unsafe { &*test.cast::<Test>() };
    test()
}
