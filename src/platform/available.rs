//! The memory that this process can still allocate. The machine, the control groups and `ulimit` limit it.

use super::cgroup;
use std::path::Path;

/// Available memory, and its limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Available {
    /// Bytes; `u64::MAX` if the system does not report them.
    pub(crate) bytes: u64,
    /// Text for a message about the limit, to follow "X GiB", such as "is free".
    pub(crate) bound: String,
    /// Advice on how to get more memory.
    pub(crate) more: &'static str,
}

impl Available {
    /// Returns `bytes` of memory that only the machine limits.
    pub(crate) fn of_machine(bytes: u64) -> Self {
        Self { bytes, bound: "is free".to_owned(), more: "close other programs" }
    }

    /// Returns the memory that is left if `bytes` of it are kept free.
    pub(crate) fn without(self, bytes: u64) -> Self {
        match bytes {
            0 => self,
            _ => Self {
                bytes: self.bytes.saturating_sub(bytes),
                bound: "is free beside the draft model".to_owned(),
                ..self
            },
        }
    }
}

/// Returns the memory that is available without swapping.
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

/// Returns the smallest of all limits. `root`: the folder of `/proc` and `/sys`.
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "reads Linux's /proc and /sys"))]
fn available(root: &Path) -> Available {
    let read = |file: &str| std::fs::read_to_string(root.join(file)).unwrap_or_default();
    let (status, limits) = (read("proc/self/status"), read("proc/self/limits"));
    let mut bounds = vec![Available::of_machine(kilobytes(&read("proc/meminfo"), "MemAvailable:").unwrap_or(u64::MAX))];
    bounds.extend(cgroup::memory(root).map(|left| Available {
        bytes: left.free,
        bound: format!(
            "is left of the limit of {} that the control group {} has",
            crate::table::gib(left.limit),
            crate::sanitize::shown(&left.group)
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

/// Returns the number of a line `NAME  N kB`, in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Returns the soft limit of a line of `/proc/self/limits`, `NAME  SOFT  HARD  UNIT`; `None` if it is unlimited.
fn soft_limit(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
