//! CPU features (instruction sets) that the linked llama.cpp was built for, and whether this CPU has them.

use crate::ggml_type::copy_c_str;
use llama_cpp_sys_2 as sys;
use std::ffi::{CStr, c_char};
use std::sync::OnceLock;

/// Returns the CPU features of this architecture (x86-64 or aarch64) that llama.cpp knows: for each its name as in
/// /proc/cpuinfo, and whether the linked llama.cpp uses it.
#[must_use]
pub fn built_for() -> Vec<(&'static str, bool)> {
    // SAFETY: each function takes no arguments and returns a constant of the build.
    let all = unsafe {
        [
            ("avx", sys::ggml_cpu_has_avx()),
            ("avx2", sys::ggml_cpu_has_avx2()),
            ("fma", sys::ggml_cpu_has_fma()),
            ("f16c", sys::ggml_cpu_has_f16c()),
            ("bmi2", sys::ggml_cpu_has_bmi2()),
            ("avx_vnni", sys::ggml_cpu_has_avx_vnni()),
            ("avx512f", sys::ggml_cpu_has_avx512()),
            ("avx512vbmi", sys::ggml_cpu_has_avx512_vbmi()),
            ("avx512vnni", sys::ggml_cpu_has_avx512_vnni()),
            ("avx512bf16", sys::ggml_cpu_has_avx512_bf16()),
            ("amx_int8", sys::ggml_cpu_has_amx_int8()),
            ("neon", sys::ggml_cpu_has_neon()),
            ("dotprod", sys::ggml_cpu_has_dotprod()),
            ("i8mm", sys::ggml_cpu_has_matmul_int8()),
            ("sve", sys::ggml_cpu_has_sve()),
        ]
    };
    let arm = ["neon", "dotprod", "i8mm", "sve"];
    let is_here = |name: &str| arm.contains(&name) == cfg!(target_arch = "aarch64");
    all.into_iter().filter(|(name, _)| is_here(name)).map(|(name, built)| (name, built != 0)).collect()
}

unsafe extern "C" {
    fn llama_ext_missing_feature() -> *const c_char;
}

/// Returns a feature of x86-64 that this build uses and this CPU lacks; `None` if there is none. Call it before all
/// other functions of this crate: they could use the feature and die with SIGILL.
#[must_use]
pub fn missing() -> Option<&'static str> {
    // SAFETY: takes no arguments and returns NULL or a static NUL-terminated ASCII string.
    let name = unsafe { llama_ext_missing_feature() };
    if name.is_null() {
        return None;
    }
    // SAFETY: not NULL, so it is such a string.
    unsafe { CStr::from_ptr(name) }.to_str().ok()
}

/// Returns llama.cpp's one-line summary of its build.
#[must_use]
pub fn system_info() -> String {
    static INFO: OnceLock<String> = OnceLock::new();
    // SAFETY: the function writes a static buffer and returns a pointer to it. `get_or_init` runs it once, in one
    // thread, and the text is copied before it returns.
    INFO.get_or_init(|| unsafe { copy_c_str(sys::llama_print_system_info()) }).clone()
}

#[cfg(test)]
mod tests {
    use super::{built_for, missing};

    #[test]
    fn this_cpu_has_the_features_of_this_build() {
        assert_eq!(missing(), None);
    }

    #[test]
    fn lists_features_of_this_architecture() {
        assert!(!built_for().is_empty());
    }
}
