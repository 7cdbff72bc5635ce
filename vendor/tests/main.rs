//! The tests of what this crate adds to llama.cpp. They are one test program, so that it is linked once.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
mod attention;
mod llama_cpp_pin;
mod matmul;
mod tensor_types;
