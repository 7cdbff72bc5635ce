//! The program from outside, by subject. All of it is one test program, so that it is linked once.
//! A test that needs more than the repository is ignored and begins with the name of what it needs
//! (`scripts/ignored-tests.sh` has the list, runs what it can and counts the rest).

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod batch;
mod chat;
mod cli;
mod convert;
mod hub;
mod public_reports;
mod support;

/// Checkpoints made by code, shared with the library's tests.
#[allow(dead_code, reason = "the library's tests use the rest")]
#[path = "../quantize/tests/fixtures/mod.rs"]
mod checkpoints;
