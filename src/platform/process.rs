//! This process: its memory, and the environment that the C libraries read before `main`.

/// Returns the peak resident memory of this process in bytes; `None` if the system does not report it.
pub(crate) fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Returns the total and the available memory of the machine in bytes; zeros if the system does not report it.
pub(crate) fn machine_memory() -> (u64, u64) {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    (system.total_memory(), system.available_memory())
}

/// Re-executes the program once, in the same process, with environment variables that the C libraries read before
/// `main`. Does nothing if the user has set `GOMP_SPINCOUNT` or `OMP_WAIT_POLICY`; keeps a `glibc.malloc.hugetlb` that
/// the user has set.
///
/// `GOMP_SPINCOUNT=30000`: OpenMP threads spin for a fraction of a millisecond before they sleep, not for several. If
/// other programs are running, a spinning thread occupies the core that the thread it waits for needs: a 1.1B model
/// with 2 threads on 2 busy cores generated 4 to 10 tokens per second with GNU OpenMP's default, and 16 with this
/// value. Sleeping at once is not faster there; on an idle machine it makes a batch 10 % slower, and a single answer
/// even more.
///
/// `GLIBC_TUNABLES=glibc.malloc.hugetlb=1`: the KV cache, compute buffers and repacked weights use huge pages if the
/// kernel provides them only on request (Debian's default). In a measurement, a batch of a small model had a quarter of
/// the page faults.
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
