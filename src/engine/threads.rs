//! How many threads compute, and how they wait for one another.

/// Weights that are worth a thread, in bytes: about a millisecond of reading for each token.
const WEIGHTS_PER_THREAD: u64 = 16 << 20;

/// Threads for a model of `weights` bytes. One for each physical core that this process may use: a second thread on a core
/// shares its arithmetic units and its memory port. And no thread with less than [`WEIGHTS_PER_THREAD`] to read:
/// all threads meet after every operation, and that costs more than such a thread computes.
pub(super) fn default_threads(weights: u64) -> u32 {
    let useful = usize::try_from(weights / WEIGHTS_PER_THREAD).unwrap_or(usize::MAX);
    u32::try_from(super::cores::cores().min(useful)).unwrap_or(1).max(1)
}

/// Has the threads spin for a fraction of a millisecond before they sleep, not for several. Where something else runs on the
/// machine too, a thread that spins keeps the core from the very thread it waits for: a 1.1B model with 2 threads on 2 busy
/// cores generated 4 to 10 tokens a second with GNU OpenMP's own setting, and 16 with this one. Sleeping at once is no
/// better there, and where the machine is idle it costs a tenth of a batch's speed and more of one answer's. The library
/// reads it from the environment before `main`, so the program starts itself again with it (the process stays the same).
/// Somebody else's setting is left alone. The C library is asked for huge pages in the same way: the KV cache and weights
/// that are rearranged then take fewer entries of the TLB, where the kernel gives such pages on request only.
pub(crate) fn spin_briefly() {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::process::CommandExt as _;
        const SETTING: &str = "GOMP_SPINCOUNT";
        /// The library's own are 300,000, or 1,000 when it has more threads than cores.
        const SPINS: &str = "30000";
        const TUNABLES: &str = "GLIBC_TUNABLES";
        const HUGE_PAGES: &str = "glibc.malloc.hugetlb=1";
        let tunables = match std::env::var(TUNABLES) {
            Ok(others) if others.is_empty() || others.contains("glibc.malloc.hugetlb") => others,
            Ok(others) => format!("{others}:{HUGE_PAGES}"),
            Err(_) => HUGE_PAGES.to_owned(),
        };
        let set = [SETTING, "OMP_WAIT_POLICY"].iter().any(|name| std::env::var_os(name).is_some());
        let mut args = std::env::args_os();
        if let (false, Ok(program), Some(name)) = (set, std::env::current_exe(), args.next()) {
            // When that fails, the program is only slower.
            let mut again = std::process::Command::new(program);
            let _ = again.arg0(name).args(args).env(SETTING, SPINS).env(TUNABLES, tunables).exec();
        }
    }
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
