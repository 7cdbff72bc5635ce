//! The border with llama.cpp: what this workspace needs of it and `llama-cpp-2` does not offer safely.
//!
//! All raw FFI of the workspace is in this crate. There is no policy, no file format and no I/O here: a caller decides
//! what to quantize, this crate checks what llama.cpp would assert on (an assertion aborts the process) and calls it.

pub mod abort;
pub mod accel;
pub mod attention;
pub mod blocks;
pub mod cpu_check;
pub mod cpu_features;
mod error;
pub mod ftype;
pub mod ggml_type;
mod half_floats;
pub mod load;
pub mod log;
pub mod matmul;
pub mod quantize_file;
pub mod quantize_rows;
pub mod tensor_types;

pub use error::Error;
pub use ftype::Ftype;
pub use ggml_type::GgmlType;
pub use half_floats::{bf16_to_f32, f16_to_f32};
pub use quantize_rows::{quantize_rows, to_f32};
pub use tensor_types::{ModelShape, TensorDesc, TypeRules, pattern_finds, tensor_types};

/// The pinned versions, as vendor/llama.cpp.toml states them (TOML text).
pub const PIN: &str = include_str!("../llama.cpp.toml");

/// ggml's version, as the linked library says it, such as `0.26.0`.
#[must_use]
pub fn ggml_version() -> String {
    // SAFETY: the function returns a pointer to a static string.
    unsafe { ggml_type::static_str(llama_cpp_sys_2::ggml_version()) }
}
