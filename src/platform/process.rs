//! This process: its memory, and the environment that the C libraries read before `main`.

/// The most memory that this process had so far, in bytes, where the system tells.
pub(crate) fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Returns the total and the available memory of the machine in bytes; zeros where the system does not tell.
pub(crate) fn machine_memory() -> (u64, u64) {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    (system.total_memory(), system.available_memory())
}

/// Starts the program again, once (the process stays the same), with settings that the C libraries read from the environment
/// before `main`; what the user has set is left alone.
///
/// GOMP_SPINCOUNT=30000: OpenMP's threads spin for a fraction of a millisecond before they sleep, not for several. Where
/// something else runs on the machine too, a thread that spins keeps the core from the very thread it waits for: a 1.1B model
/// with 2 threads on 2 busy cores generated 4 to 10 tokens a second with GNU OpenMP's own setting, and 16 with this one.
/// Sleeping at once is no better there, and where the machine is idle it costs a tenth of a batch's speed and more of one
/// answer's.
///
/// GLIBC_TUNABLES=glibc.malloc.hugetlb=1: the KV cache, scratch buffers and rearranged weights lie in huge pages where the kernel
/// gives them on request only (Debian's default). A batch of a small model then had a quarter of the page faults.
pub(crate) fn reexec_with_short_openmp_spin() {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::process::CommandExt as _;
        const SETTING: &str = "GOMP_SPINCOUNT";
        /// The library's own are 300,000, or 1,000 when it has more threads than cores.
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
            // When that fails, the program is only slower.
            let mut again = std::process::Command::new(program);
            again.arg0(name).args(args).env(SETTING, SPINS).envs(tunables.map(|text| (TUNABLES, text)));
            let _ = again.exec();
        }
    }
}
