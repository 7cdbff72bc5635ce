//! The number of physical cores that this process may use. Its CPU affinity and the CPU quota of its control groups
//! limit it. Hardware threads of the same core count once.

use super::cgroup;
use std::collections::BTreeSet;
use std::path::Path;

/// Returns the number of cores, at least 1.
pub(crate) fn cores() -> usize {
    #[cfg(target_os = "linux")]
    {
        let allowed = std::thread::available_parallelism().map_or(1, |n| n.get());
        cores_of(Path::new("/")).unwrap_or(allowed)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let allowed = std::thread::available_parallelism().map_or(1, |n| n.get());
        sysinfo::System::physical_core_count().unwrap_or(allowed).min(allowed)
    }
}

/// Like [`cores`], for the system whose `/proc` and `/sys` are in `root`; `None` if it does not report the allowed
/// CPUs.
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "reads Linux's /proc and /sys"))]
fn cores_of(root: &Path) -> Option<usize> {
    let status = std::fs::read_to_string(root.join("proc/self/status")).ok()?;
    let allowed = list(status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?)?;
    let first_sibling = |cpu: &usize| {
        let topology = root.join(format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"));
        let siblings = std::fs::read_to_string(topology).ok().and_then(|text| list(&text));
        siblings.and_then(|siblings| siblings.first().copied()).unwrap_or(*cpu)
    };
    let cores: BTreeSet<usize> = allowed.iter().map(first_sibling).collect();
    // Round the quota down: when a quota is used up, one thread is stopped and all others wait for it.
    let quota = cgroup::cpus(root).map_or(usize::MAX, |cpus| cpus.floor() as usize);
    Some(cores.len().min(quota).max(1))
}

/// Parses a list such as `0-3,8`; limited to the maximum number of CPUs of Linux.
fn list(text: &str) -> Option<BTreeSet<usize>> {
    const MAX: usize = 8192;
    let mut all = BTreeSet::new();
    for part in text.trim().split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to) = (from.trim().parse::<usize>().ok()?, to.trim().parse::<usize>().ok()?);
        all.extend(from..=to.min(MAX));
    }
    (!all.is_empty()).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::{cores_of, list};
    use crate::platform::available::fake::Tree;

    #[test]
    fn parses_cpu_lists() {
        assert_eq!(list("0-2,8\n").map(|cpus| cpus.into_iter().collect()), Some(vec![0, 1, 2, 8]));
        assert_eq!(list(""), None);
        assert_eq!(list("0-x"), None);
    }

    /// A machine with 8 cores of 2 threads each: CPUs n and n + 8 are one core.
    fn machine(allowed: &str) -> Tree {
        let mut tree = Tree::new().file("proc/self/status", &format!("Name:\tx\nCpus_allowed_list:\t{allowed}\n"));
        for cpu in 0..16 {
            let siblings = format!("{},{}\n", cpu % 8, cpu % 8 + 8);
            tree = tree.file(&format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"), &siblings);
        }
        tree
    }

    #[test]
    fn hardware_threads_of_a_core_count_once() {
        for (allowed, cores) in [("0-15", 8), ("0-3,8-11", 4), ("5,13", 1), ("0-7", 8), ("3", 1)] {
            assert_eq!(cores_of(machine(allowed).root()), Some(cores), "{allowed}");
        }
        let unknown = Tree::new().file("proc/self/status", "Cpus_allowed_list:\t0-3\n");
        assert_eq!(cores_of(unknown.root()), Some(4), "without a topology every CPU is a core");
        assert_eq!(cores_of(Tree::new().root()), None);
    }

    #[test]
    fn a_cpu_quota_limits_the_cores() {
        let v2 = |quota: &str| {
            machine("0-15")
                .v2("/job/step")
                .file("sys/fs/cgroup/job/cpu.max", quota)
                .file("sys/fs/cgroup/job/step/cpu.max", "max 100000\n")
        };
        for (quota, cores) in
            [("200000 100000\n", 2), ("250000 100000\n", 2), ("50000 100000\n", 1), ("max 100000\n", 8)]
        {
            assert_eq!(cores_of(v2(quota).root()), Some(cores), "{quota}");
        }
        let v1 = |quota: &str| {
            machine("0-15")
                .v1("cpu,cpuacct", "/", "/docker/abc")
                .file("sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us", quota)
                .file("sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us", "100000\n")
        };
        assert_eq!(cores_of(v1("300000\n").root()), Some(3));
        assert_eq!(cores_of(v1("-1\n").root()), Some(8));
    }
}
