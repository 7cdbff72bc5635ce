//! Checks GGUF files and checkpoint folders.
//!
//! A GGUF file is read once. [`Gguf::open`] has checked the header; this module checks every block's scale and every
//! weight, compares the tensors with those that the header's numbers require, and computes the SHA-256. With a
//! [`Reference`], the error of each block (`block_error`) and the metadata are compared too. `checkpoint` checks
//! checkpoint folders.

#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::as_conversions))]

mod block_error;
mod checkpoint;
mod file_spans;
mod metadata_diff;
mod ordered_sha256;
mod reference;
mod tensor_check;
mod tensor_table;

pub use checkpoint::{FileCheck, verify_checkpoint};
pub use reference::Reference;
pub use tensor_check::{Check, Distance};
pub use tensor_table::table_problems;

use crate::error::{Code, Error, Result};
use crate::gguf::{Gguf, align};
use crate::integers::to_usize;
use crate::observer::Observer;
use crate::platform::read_exact_at;
use crate::worker_pool;
use file_spans::FileSpan;
use ordered_sha256::{OrderedSha256, StopOnFailure};
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use tensor_check::{Buffers, TensorState, check, lock};

/// The result for a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// SHA-256 of the whole file, in hexadecimal.
    pub sha256: String,
    /// One result per tensor, in file order.
    pub tensors: Vec<Check>,
    /// Problems of the file as a whole.
    pub problems: Vec<String>,
    /// Warnings, including checks that were not possible.
    pub notes: Vec<String>,
}

impl Verdict {
    /// Whether there are no problems.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.problems.is_empty() && self.tensors.iter().all(|t| t.problem.is_none())
    }
}

/// Reads `file` once on `threads` threads, checks it and computes its SHA-256. With a reference (`against`), also
/// compares the weights and the metadata.
///
/// # Errors
/// [`Error`] when a file cannot be read, or the observer cancels. Problems of the contents are no errors: they are in
/// the [`Verdict`].
pub fn verify(
    file: &Gguf,
    against: Option<&Reference>,
    threads: NonZeroUsize,
    observer: &dyn Observer,
) -> Result<Verdict> {
    let (mut problems, mut notes) = (Vec::new(), Vec::new());
    check_whole_file(file, against, &mut problems, &mut notes);
    let found: Vec<Mutex<TensorState>> =
        file.tensors.iter().map(|t| Mutex::new(TensorState::new(t, against))).collect();
    let is_compared = |tensor: usize| found.get(tensor).is_some_and(|f| lock(f).between.is_some());
    let spans =
        file_spans::split(file, |tensor| if is_compared(tensor) { against.map_or(1, Reference::unit) } else { 1 });
    let order = OrderedSha256::new();
    worker_pool::run(threads, spans.len(), &file.path, |number, buffers: &mut Buffers| {
        let mut guard = StopOnFailure { order: &order, succeeded: false };
        if let Some(span) = spans.get(number) {
            check_cancelled(file, observer)?;
            let bytes = read(file, span)?;
            if let Some(weights) = span.weights
                && let (Some(t), Some(found)) = (file.tensors.get(weights.tensor), found.get(weights.tensor))
            {
                check(file, t, weights, &bytes, against, found, buffers)?;
                observer.advanced(&t.name, span.len);
            }
            order.add(number, bytes);
        }
        guard.succeeded = true;
        Ok(())
    })?;
    let each = file.tensors.iter().zip(found);
    let tensors = each.map(|(t, f)| f.into_inner().unwrap_or_else(PoisonError::into_inner).finish(t)).collect();
    Ok(Verdict { sha256: order.finish(), tensors, problems, notes })
}

/// Checks the file as a whole: length, tensor table, metadata.
fn check_whole_file(file: &Gguf, against: Option<&Reference>, problems: &mut Vec<String>, notes: &mut Vec<String>) {
    let part = file.part().unwrap_or_else(|what| {
        problems.push(what);
        None
    });
    if let Some((n, of)) = part {
        notes.push(format!("is part {n} of {of} of a split file; only the tensors of this part are checked"));
    }
    let padded = align(file.end(), file.alignment).unwrap_or(u64::MAX);
    if file.len > padded {
        let more = file.len.saturating_sub(padded);
        problems.push(format!("{more} bytes follow the last tensor, from byte {padded}"));
    }
    if file.tensors.is_empty() && part.is_none() {
        problems.push("has no tensors".to_owned());
    } else if part.is_none() && against.is_none() {
        match file.str("general.architecture") {
            Some("llama") => match tensor_table::table_problems(file) {
                Ok(found) => problems.extend(found),
                Err(what) => problems.push(what),
            },
            other => notes.push(format!(
                "has architecture {}, so it cannot be checked that its tensors are complete",
                other.unwrap_or("unknown")
            )),
        }
    }
    let Some(reference) = against else { return };
    let have: std::collections::HashSet<&str> = file.tensors.iter().map(|t| t.name.as_str()).collect();
    if part.is_none() {
        let mut missing: Vec<&str> = reference.names().into_iter().filter(|name| !have.contains(name)).collect();
        missing.sort_unstable();
        let missing = missing.iter().map(|name| format!("tensor '{name}' is missing")).collect();
        problems.extend(tensor_table::shortened(missing));
    }
    if part.is_none_or(|(n, _)| n == 1) {
        problems.extend(metadata_diff::differences(&file.pairs, &reference.pairs()));
    }
}

fn check_cancelled(file: &Gguf, observer: &dyn Observer) -> Result<()> {
    if observer.cancelled() {
        return Err(Error::new(Code::Interrupted, &file.path, "stopped", "run it again"));
    }
    Ok(())
}

/// Reads the bytes of a span.
fn read(file: &Gguf, span: &FileSpan) -> Result<Vec<u8>> {
    let mut bytes = vec![0; to_usize(span.len)];
    read_exact_at(&file.file, &mut bytes, span.offset).map_err(|err| {
        if err.kind() == std::io::ErrorKind::UnexpectedEof {
            let what = format!("ended before byte {} while it was read", file.len);
            return Error::new(Code::InputChanged, &file.path, what, "run it again when nothing writes to the file");
        }
        Error::io(&file.path, &format!("read the file at byte {}", span.offset), &err)
    })?;
    Ok(bytes)
}
