//! The library's tests, by subject. They are one test program, so that it is linked once.
//! Ignored tests: see `scripts/ignored-tests.sh`.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod against_ggml_kernels;
mod against_llama_converter;
mod against_llama_quantize;
mod byte_fallback_bpe;
mod byte_level_bpe;
mod checkpoint;
mod fixtures;
mod fuzz_damage;
#[allow(dead_code, reason = "shared with the bench")]
mod random_weights;
mod split_files;
mod streaming;
mod support;
mod torch;
