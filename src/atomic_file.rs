//! Atomic writes that return the program's errors. The write itself is in `quantize/src/atomic_file.rs`.

use crate::error::Failure;
use std::path::Path;
use tulu_quantize::atomic_file;
pub(crate) use tulu_quantize::atomic_file::{AtomicFile, folder_of};
pub(crate) use tulu_quantize::platform::Mode;

/// Writes `bytes` to `path` atomically. Creates the folder if it is missing, and replaces an existing file.
pub(crate) fn write(path: &Path, bytes: &[u8], mode: Mode) -> Result<(), Failure> {
    atomic_file::write(path, bytes, mode).map_err(|err| Failure::io(path, "cannot write", &err))
}
