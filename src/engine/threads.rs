//! The number of compute threads.

/// Minimum weights per thread, in bytes: about a millisecond of reading for each token.
const WEIGHTS_PER_THREAD: u64 = 16 << 20;

/// Returns the number of threads for a model of `weights` bytes: one for each physical core that this process may use,
/// because a second thread on a core shares its arithmetic units and its memory port. Every thread has at least
/// [`WEIGHTS_PER_THREAD`] to read: all threads wait for each other after every operation, and with fewer weights this
/// takes more time than the additional thread saves.
pub(super) fn default_threads(weights: u64) -> u32 {
    let useful = usize::try_from(weights / WEIGHTS_PER_THREAD).unwrap_or(usize::MAX);
    u32::try_from(crate::platform::cores().min(useful)).unwrap_or(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::default_threads;

    #[test]
    fn a_small_model_gets_one_thread() {
        assert_eq!(default_threads(3 << 20), 1);
        assert!(default_threads(8 << 30) >= 1);
    }
}
