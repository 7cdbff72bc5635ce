//! Tests of the program from outside, by subject. They are one test program, so that linking is done once. A test that
//! needs more than the repository is ignored, and the first word of its name is what it needs.
//! `scripts/ignored-tests.sh` runs the tests that can run and counts the others.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod batch;
mod chat;
mod cli;
mod convert;
mod eval;
mod gpu;
mod hub;
mod llama3;
mod public_reports;
mod serve;
mod support;

/// Random checkpoints, shared with the library's tests.
#[allow(dead_code, reason = "the library's tests use the rest")]
#[path = "../quantize/tests/fixtures/mod.rs"]
mod checkpoints;
