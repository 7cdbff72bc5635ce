//! Checks a checkpoint folder: every weight must be finite, and every storage of a `.bin` file must have its CRC-32.
//! [`Checkpoint::open`] has checked the structure; the program computes the SHA-256s.

use crate::checkpoint::Checkpoint;
use crate::convert::f32_rows::RowReader;
use crate::convert::storage_crc::StorageCrcs;
use crate::error::{Code, Error, Result};
use crate::observer::Observer;
use crate::plan::Plan;
use crate::quantize_options::QuantizeOptions;
use crate::worker_pool;
use llama_ext::Ftype;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// The result for a weight file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileCheck {
    /// Path of the file.
    pub path: PathBuf,
    /// Length in bytes.
    pub bytes: u64,
    /// Problems: the first of each tensor and storage.
    pub problems: Vec<String>,
}

/// Checks every weight of `source` and the CRC-32s of its storages. Returns one result per weight file.
///
/// # Errors
/// [`Error`] when the tensors do not match the configuration, a file cannot be read, or the observer cancels. Problems
/// of the contents are in the results.
pub fn verify_checkpoint(
    source: &Checkpoint,
    threads: NonZeroUsize,
    observer: &dyn Observer,
) -> Result<Vec<FileCheck>> {
    let plan = Plan::new(source, &[(Ftype::F32, PathBuf::from("unused.gguf"))], &QuantizeOptions::default())?;
    let (mut crcs, uncovered) = StorageCrcs::new(source, &plan);
    let chunks = crate::convert::chunks(source, &plan, Some(&mut crcs));
    let found: Mutex<Vec<FileCheck>> = Mutex::new(
        source
            .shards
            .iter()
            .map(|shard| FileCheck { path: shard.path.clone(), bytes: shard.len(), problems: Vec::new() })
            .collect(),
    );
    let wrong = |err: &Error| {
        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = found.iter_mut().find(|file| file.path == err.file) {
            // report one problem per tensor
            let tensor = err.what.split('\'').nth(1).map(str::to_owned);
            let is_reported = |known: &String| tensor.is_some() && known.split('\'').nth(1) == tensor.as_deref();
            if !file.problems.iter().any(is_reported) {
                file.problems.push(err.what.clone());
            }
        }
    };
    worker_pool::run(
        threads,
        chunks.len().saturating_add(uncovered.len()),
        &source.dir,
        |number, reader: &mut RowReader| {
            if observer.cancelled() {
                return Err(Error::new(Code::Interrupted, &source.dir, "stopped", "run it again"));
            }
            let Some(chunk) = chunks.get(number) else {
                let rest = number.checked_sub(chunks.len()).and_then(|rest| uncovered.get(rest));
                return rest.map_or(Ok(()), |crc_chunk| crcs.read(*crc_chunk, reader.bytes()));
            };
            let Some(tensor) = plan.tensors.get(chunk.tensor) else { return Ok(()) };
            let shard = source.tensors.get(tensor.source).and_then(|from| source.shards.get(from.shard));
            let Some(shard) = shard else { return Ok(()) };
            let read = |buf: &mut [u8], offset| shard.bytes.read_exact_at(buf, offset);
            match reader.read(source, &read, tensor, (chunk.first_row, chunk.rows)) {
                Err(err) if err.code == Code::TensorValue => wrong(&err),
                Err(err) => return Err(err),
                Ok(_) => {}
            }
            if let Some(crc_chunk) = chunk.crc_chunk {
                crcs.store(crc_chunk, reader.bytes());
            }
            observer.advanced(&tensor.name, chunk.bytes(&plan));
            Ok(())
        },
    )?;
    crcs.mismatches().iter().for_each(wrong);
    source.unchanged()?;
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.iter_mut().for_each(|file| file.problems.sort());
    Ok(found)
}
