//! Available memory on fake machines, with every kind of limit.

use super::available;
use super::fake::Tree;

const MIB: u64 = 1 << 20;

/// A machine with 64 GiB free.
fn machine() -> Tree {
    Tree::new().file("proc/meminfo", "MemTotal: 131072000 kB\nMemAvailable:   67108864 kB\n")
}

fn v2_group(tree: Tree, folder: &str, max: &str, current: u64, stat: &str) -> Tree {
    tree.file(&format!("sys/fs/cgroup{folder}/memory.max"), &format!("{max}\n"))
        .file(&format!("sys/fs/cgroup{folder}/memory.current"), &format!("{}\n", current * MIB))
        .file(&format!("sys/fs/cgroup{folder}/memory.stat"), stat)
}

fn v1_group(tree: Tree, folder: &str, limit: u64, usage: u64, stat: &str) -> Tree {
    tree.file(&format!("sys/fs/cgroup/memory{folder}/memory.limit_in_bytes"), &format!("{limit}\n"))
        .file(&format!("sys/fs/cgroup/memory{folder}/memory.usage_in_bytes"), &format!("{}\n", usage * MIB))
        .file(&format!("sys/fs/cgroup/memory{folder}/memory.stat"), stat)
}

fn mib(tree: &Tree) -> u64 {
    available(tree.root()).bytes / MIB
}

#[test]
fn without_limits_the_memory_of_the_machine_is_available() {
    assert_eq!(mib(&machine()), 65_536);
    assert_eq!(available(Tree::new().root()).bytes, u64::MAX, "nothing is known");
    let root = machine().v2("/").file("sys/fs/cgroup/cgroup.procs", "1\n");
    assert_eq!(mib(&root), 65_536, "the root group has no files about memory");
    let unlimited = v2_group(machine().v2("/user.slice"), "/user.slice", "max", 100, "");
    assert_eq!(mib(&unlimited), 65_536);
    let unlimited = v1_group(machine().v1("memory", "/", "/"), "", 9_223_372_036_854_771_712, 100, "");
    assert_eq!(mib(&unlimited), 65_536);
}

#[test]
fn limits_of_the_own_group_and_its_ancestors_count() {
    // Slurm with cgroup v2: the job has the limit, the step has none.
    let job = "/system.slice/slurmstepd.scope/job_42";
    let tree = v2_group(machine().v2(&format!("{job}/step_0/user")), job, &(24_u64 << 30).to_string(), 1024, "");
    assert_eq!(mib(&v2_group(tree, &format!("{job}/step_0/user"), "max", 512, "")), 23 * 1024);
    // systemd-run -p MemoryMax=, and MemoryHigh= in a slice above.
    let unit = "/user.slice/run-1.scope";
    let tree = v2_group(machine().v2(unit), unit, &(400 * MIB).to_string(), 100, "");
    assert_eq!(mib(&tree), 300);
    let tree =
        v2_group(tree, "/user.slice", "max", 150, "").file("sys/fs/cgroup/user.slice/memory.high", "209715200\n");
    assert_eq!(mib(&tree), 50);
    // Slurm with cgroup v1.
    let job = "/slurm/uid_7/job_42";
    let tree = v1_group(machine().v1("memory", "/", &format!("{job}/step_0")), job, 90 * MIB, 30, "");
    let tree = v1_group(tree, &format!("{job}/step_0"), 9_223_372_036_854_771_712, 30, "");
    assert_eq!(mib(&tree), 60);
}

#[test]
fn a_container_sees_its_group_as_the_root() {
    // Docker with v1: the group's path begins with the mounted group.
    let tree = machine().v1("memory", "/docker/abc", "/docker/abc");
    assert_eq!(mib(&v1_group(tree, "", 300 * MIB, 100, "")), 200);
    // A group below it.
    let tree = v1_group(machine().v1("memory", "/docker/abc", "/docker/abc/task"), "", 300 * MIB, 100, "");
    assert_eq!(mib(&v1_group(tree, "/task", 150 * MIB, 100, "")), 50);
    // A bind mount of the group, with paths in /proc that belong to another namespace or point outside the namespace.
    for path in ["/kubepods/pod1/c1", "/../../init.scope", "/"] {
        let tree =
            machine().mounted("30 23 0:26 /kubepods/pod2 /sys/fs/cgroup ro - cgroup2 cgroup rw", &format!("0::{path}"));
        assert_eq!(mib(&v2_group(tree, "", &(300 * MIB).to_string(), 100, "")), 200, "{path}");
    }
}

#[test]
fn a_hybrid_machine_has_memory_in_v1() {
    let tree = machine()
        .mounted("41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw", "0::/user.slice/a\\040b")
        .v1("memory", "/", "/user.slice");
    assert_eq!(mib(&v1_group(tree, "/user.slice", 512 * MIB, 12, "")), 500);
}

#[test]
fn page_cache_does_not_count_as_used() {
    let stat = format!(
        "anon 300000\nfile 9\ninactive_file {}\nactive_file {}\nslab_reclaimable {}\nshmem 5\n",
        200 * MIB,
        70 * MIB,
        4 * MIB
    );
    let tree = v2_group(machine().v2("/pod"), "/pod", &(300 * MIB).to_string(), 290, &stat);
    assert_eq!(mib(&tree), 300 - (290 - 274));
    let stat = format!("inactive_file 1\ntotal_inactive_file {}\ntotal_active_file {}\n", 200 * MIB, 70 * MIB);
    let tree = v1_group(machine().v1("memory", "/", "/pod"), "/pod", 300 * MIB, 290, &stat);
    assert_eq!(mib(&tree), 280);
    let stat = format!("inactive_file {}\n", u64::MAX);
    let tree = v2_group(machine().v2("/pod"), "/pod", "100", 290, &stat);
    assert_eq!(available(tree.root()).bytes, 100, "impossible numbers do not panic");
}

#[test]
fn ulimit_counts() {
    let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                  Max data size             unlimited            unlimited            bytes     \n\
                  Max address space         4294967296           unlimited            bytes     \n";
    let tree = machine().file("proc/self/limits", limits).file("proc/self/status", "VmSize:\t 1048576 kB\n");
    let found = available(tree.root());
    assert_eq!((found.bytes / MIB, found.bound.as_str()), (3072, "is left under ulimit -v"));
}

#[test]
fn the_limit_is_named() {
    let tree = v2_group(machine().v2("/pod"), "/pod", &(300 * MIB).to_string(), 100, "");
    let found = available(tree.root());
    assert!(
        found.bound.starts_with("is left of the limit of 0.29 GiB that the control group ")
            && found.bound.ends_with("/sys/fs/cgroup/pod has")
    );
    assert!(found.more.contains("Slurm --mem"));
}
