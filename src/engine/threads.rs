//! The number of compute threads, and the environment of OpenMP, which runs them.

/// Minimum weights per thread, in bytes: about a millisecond of reading for each token.
const WEIGHTS_PER_THREAD: u64 = 16 << 20;

/// Returns the number of threads for a model of `weights` bytes: one for each physical core that this process may use,
/// because a second thread on a core shares its arithmetic units and its memory port; but no thread with less than
/// [`WEIGHTS_PER_THREAD`] to read, because all threads wait for each other after every operation, which takes longer than
/// such a thread saves.
pub(super) fn default_threads(weights: u64) -> u32 {
    let useful = usize::try_from(weights / WEIGHTS_PER_THREAD).unwrap_or(usize::MAX);
    u32::try_from(super::cores::cores().min(useful)).unwrap_or(1).max(1)
}

/// Re-executes the program once, in the same process, with environment variables that the C libraries read before `main`.
/// Variables that the user has set (`GOMP_SPINCOUNT`, `OMP_WAIT_POLICY`, `glibc.malloc.hugetlb`) are respected.
///
/// `GOMP_SPINCOUNT=30000`: OpenMP threads spin for a fraction of a millisecond before they sleep, not for several. If other
/// programs run too, a spinning thread takes the core from the thread that it waits for: a 1.1B model with 2 threads on 2
/// busy cores generated 4 to 10 tokens per second with GNU OpenMP's default, and 16 with this value. Sleeping at once is not
/// faster there, and on an idle machine it costs a tenth of the speed of a batch, and more of a single answer.
///
/// `GLIBC_TUNABLES=glibc.malloc.hugetlb=1`: the KV cache, compute buffers and repacked weights use huge pages if the kernel
/// provides them only on request (Debian's default). A batch of a small model then had a quarter of the page faults.
pub(crate) fn reexec_with_short_openmp_spin() {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::process::CommandExt as _;
        const SETTING: &str = "GOMP_SPINCOUNT";
        /// The library's default is 300,000, or 1,000 if it has more threads than cores.
        const SPINS: &str = "30000";
        const TUNABLES: &str = "GLIBC_TUNABLES";
        const HUGE_PAGES: &str = "glibc.malloc.hugetlb=1";
        let tunables = match std::env::var(TUNABLES) {
            Err(std::env::VarError::NotPresent) => Some(HUGE_PAGES.to_owned()),
            Ok(others) if !others.is_empty() && !others.contains("glibc.malloc.hugetlb") => {
                Some(format!("{others}:{HUGE_PAGES}"))
            }
            _ => None,
        };
        let set = [SETTING, "OMP_WAIT_POLICY"].iter().any(|name| std::env::var_os(name).is_some());
        let mut args = std::env::args_os();
        if let (false, Ok(program), Some(name)) = (set, std::env::current_exe(), args.next()) {
            // If exec fails, the program is only slower.
            let mut again = std::process::Command::new(program);
            again.arg0(name).args(args).env(SETTING, SPINS).envs(tunables.map(|text| (TUNABLES, text)));
            let _ = again.exec();
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
