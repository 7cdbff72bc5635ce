//! Registers the ggml device with our CPU kernels (type `ACCEL`, like ggml's BLAS), and reports its kernels. The device
//! is in `accel_device.cpp`, the kernels are in `attention/` and `matmul/`.

use std::ffi::{CStr, c_char};
use std::sync::OnceLock;

unsafe extern "C" {
    fn llama_ext_has_attention() -> bool;
    fn llama_ext_matmul_path() -> *const c_char;
    fn llama_ext_register_device();
}

/// The kernels that this build has for this CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernels {
    /// Attention over f16 and q8_0 keys and values. Needs AVX2, F16C and OpenMP at build time.
    pub attention: bool,
    /// Instruction set of the matrix products of quantized weights, such as `avx512-vnni`. Needs OpenMP at build time;
    /// the instruction set is chosen at run time.
    pub matmul: Option<&'static str>,
}

/// Returns the kernels that this build has for this CPU.
#[must_use]
pub fn kernels() -> Kernels {
    // SAFETY: takes no arguments and returns a constant of the build.
    let attention = unsafe { llama_ext_has_attention() };
    // SAFETY: takes no arguments and returns NULL or a static NUL-terminated string.
    let path = unsafe { llama_ext_matmul_path() };
    // SAFETY: not NULL, so it is such a string.
    let matmul = (!path.is_null()).then(|| unsafe { CStr::from_ptr(path) }.to_str().unwrap_or_default());
    Kernels { attention, matmul }
}

/// Registers the device with ggml if it has kernels. Contexts that are created after this call use it. Returns the
/// kernels, as [`kernels`] does. May be called any number of times.
pub fn register() -> Kernels {
    static REGISTERED: OnceLock<Kernels> = OnceLock::new();
    *REGISTERED.get_or_init(|| {
        let kernels = kernels();
        if kernels.attention || kernels.matmul.is_some() {
            // SAFETY: adds a static object to ggml's registry, which is ready from its first use on, and is done once.
            unsafe { llama_ext_register_device() };
        }
        kernels
    })
}
