//! How much memory this process may still take: of the machine, of the control groups it is in, and of `ulimit`.

use super::cgroup;
use std::path::Path;

/// Memory that can be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Available {
    /// Bytes; `u64::MAX` where the system does not say.
    pub(crate) bytes: u64,
    /// What bounds them, after "X GiB …", such as `is free`.
    pub(crate) bound: String,
    /// What gives more, as advice.
    pub(crate) more: &'static str,
}

impl Available {
    /// `bytes` of the machine.
    pub(crate) fn of_machine(bytes: u64) -> Self {
        Self { bytes, bound: "is free".to_owned(), more: "close other programs" }
    }
}

/// What can be had now without swapping.
pub(crate) fn available_memory() -> Available {
    #[cfg(target_os = "linux")]
    {
        available(Path::new("/"))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let mut system = sysinfo::System::new();
        system.refresh_memory();
        Available::of_machine(if system.available_memory() == 0 { u64::MAX } else { system.available_memory() })
    }
}

/// The least of all bounds. `root`: where `/proc` and `/sys` are.
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "reads Linux's /proc and /sys"))]
fn available(root: &Path) -> Available {
    let read = |file: &str| std::fs::read_to_string(root.join(file)).unwrap_or_default();
    let (status, limits) = (read("proc/self/status"), read("proc/self/limits"));
    let mut bounds = vec![Available::of_machine(kilobytes(&read("proc/meminfo"), "MemAvailable:").unwrap_or(u64::MAX))];
    bounds.extend(cgroup::memory(root).map(|room| Available {
        bytes: room.free,
        bound: format!(
            "is left of the limit of {} that the control group {} has",
            crate::table::gib(room.limit),
            crate::sanitize::shown(&room.group)
        ),
        more: "ask for more memory (Slurm --mem, systemd MemoryMax, docker -m, Kubernetes limits)",
    }));
    for (limit, used, flag) in
        [("Max address space", "VmSize:", "ulimit -v"), ("Max data size", "VmData:", "ulimit -d")]
    {
        if let Some(limit) = soft_limit(&limits, limit) {
            let used = kilobytes(&status, used).unwrap_or(0);
            bounds.push(Available {
                bytes: limit.saturating_sub(used),
                bound: format!("is left under {flag}"),
                more: "raise that limit",
            });
        }
    }
    bounds.into_iter().min_by_key(|bound| bound.bytes).unwrap_or_else(|| Available::of_machine(u64::MAX))
}

/// The number of a line `NAME  N kB`, in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The soft limit of a line of `/proc/self/limits`: `NAME  SOFT  HARD  UNIT`; `None` when it is unlimited.
fn soft_limit(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
