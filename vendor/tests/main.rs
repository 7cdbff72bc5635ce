//! The tests of this crate's wrappers and kernels. They are one test program, so that llama.cpp is linked once.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
mod attention;
mod llama_cpp_pin;
mod matmul;
mod tensor_types;
