//! Conversions between lengths in memory (`usize`) and lengths in files (`u64`) that never fail.

/// Returns `n` as a length in memory. A larger number becomes `usize::MAX`, with which every allocation fails.
pub(crate) fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// Returns `n` as a length in a file.
pub(crate) fn to_u64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
