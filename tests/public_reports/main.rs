//! What users of other tools reported in public, tried on this program: each row of a table makes the input of one
//! report, and says what must come out. Ids and texts of Transformers are goldens in `tests/golden/public_reports`.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

#[path = "../support/mod.rs"]
mod support;

/// Checkpoints: configuration, weights, vocabulary.
mod checkpoint;
/// The folders that they are tried on.
mod folders;
/// Prompts: templates and what they are given.
mod prompt;
/// Records of a batch.
mod records;
