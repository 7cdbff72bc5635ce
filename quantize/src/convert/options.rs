//! Options and report of a conversion.

use std::num::NonZeroUsize;

/// Options of a conversion.
#[derive(Clone, Copy, Debug)]
pub struct ConvertOptions {
    /// Number of threads that convert, including the caller's.
    pub threads: NonZeroUsize,
    /// Whether existing outputs are replaced; otherwise they are an error.
    pub replace: bool,
    /// Whether ggml's code quantizes: it is slower and gives the same bytes.
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
