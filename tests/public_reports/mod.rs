//! What users of other tools reported in public, tried on this program: each row of a table makes the input of one
//! report, and says what must come out. Ids and texts of Transformers are goldens in `tests/golden/public_reports`.

/// Checkpoints: configuration, weights, vocabulary.
mod checkpoint;
/// The folders that they are tried on.
mod folders;
/// Prompts: templates and what they are given.
mod prompt;
/// Records of a batch.
mod records;
