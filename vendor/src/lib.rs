//! FFI layer for llama.cpp: safe wrappers of the functions that this workspace needs and `llama-cpp-2` does not wrap.
//!
//! All raw FFI of the workspace is in this crate, without policy, file formats or I/O. Callers decide what to compute.
//! Before each call, this crate checks the conditions that llama.cpp asserts (a failed assertion aborts the process).

pub mod abort;
pub mod accel;
pub mod attention;
pub mod backend_file;
pub mod blocks;
pub mod cpu_check;
pub mod cpu_features;
pub mod device_check;
pub mod devices;
mod error;
pub mod ftype;
pub mod ggml_type;
mod half_floats;
pub mod load;
pub mod log;
pub mod matmul;
pub mod observe;
pub mod peak;
pub mod quantize_file;
pub mod quantize_rows;
pub mod tensor_types;

pub use error::Error;
pub use ftype::Ftype;
pub use ggml_type::GgmlType;
pub use half_floats::{bf16_to_f32, f16_to_f32};
pub use quantize_rows::{quantize_rows, to_f32};
pub use tensor_types::{ModelShape, TensorDesc, TypeRules, pattern_finds, tensor_types};

/// The pinned versions: the text of vendor/llama.cpp.toml.
pub const PIN: &str = include_str!("../llama.cpp.toml");

/// Returns the version of the linked ggml, such as `0.26.0`.
#[must_use]
pub fn ggml_version() -> String {
    // SAFETY: the function returns a pointer to a static string.
    unsafe { ggml_type::copy_c_str(llama_cpp_sys_2::ggml_version()) }
}
