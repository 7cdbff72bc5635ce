//! Options and report of a conversion.

use std::num::NonZeroUsize;

/// Options of a conversion.
#[derive(Clone, Copy, Debug)]
pub struct ConvertOptions {
    /// Threads that convert, the caller included.
    pub threads: NonZeroUsize,
    /// Replaces outputs that exist.
    pub replace: bool,
    /// Quantizes with ggml's code: slower, same bytes.
    pub reference_kernels: bool,
}

/// Report of a finished conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Bytes of weights that were read.
    pub read: u64,
    /// Bytes that were written to all outputs.
    pub written: u64,
}
