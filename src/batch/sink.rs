//! [`RecordSink`], the destination of finished records during a run. `journal` and `stdout_sink` implement it.

use super::record_key::Key;
use crate::error::Failure;
use serde_json::Value;

/// A finished record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FinishedRecord<'a> {
    /// Its position in the input, from 1.
    pub(crate) number: u64,
    /// Its key.
    pub(crate) key: Key,
    /// True if it was answered, false if it failed.
    pub(crate) ok: bool,
    /// Tokens of its prompts and of its answers.
    pub(crate) tokens: (u64, u64),
    /// The output record.
    pub(crate) record: &'a Value,
}

/// Sink for finished records.
pub(crate) trait RecordSink {
    /// Whether the record was answered (true) or failed (false); `None` if it is not finished.
    fn get(&self, key: Key) -> Option<bool>;
    /// Stores a finished record.
    fn put(&mut self, done: &FinishedRecord<'_>) -> Result<(), Failure>;
    /// Number of finished records.
    fn len(&self) -> u64;
    /// Syncs to disk if the last sync is long ago. Called after every step.
    fn settle(&mut self) -> Result<(), Failure>;
    /// Syncs to disk.
    fn sync(&mut self) -> Result<(), Failure>;
    /// Returns true if the reader of the results has closed the pipe, so that the run can stop.
    fn closed(&self) -> bool;
}
