//! What a conversion is asked for, and what it reports.

use std::num::NonZeroUsize;

/// How to convert.
#[derive(Clone, Copy, Debug)]
pub struct ConvertOptions {
    /// Worker threads.
    pub threads: NonZeroUsize,
    /// Replace outputs that exist.
    pub replace: bool,
    /// Quantize with ggml's own code: slower, the same bytes.
    pub reference_kernels: bool,
}

/// What a conversion did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Bytes of weights read.
    pub read: u64,
    /// Bytes written, all outputs together.
    pub written: u64,
}
