//! Memory limits and CPU quotas of control groups, v1 and v2: of the group of this process and of its ancestors. Slurm,
//! systemd and containers set them. Formats: `cgroups(7)`, the kernel's `admin-guide/cgroup-v1/memory.rst` and
//! `admin-guide/cgroup-v2.rst`.

use std::path::{Path, PathBuf};

/// In v1, a limit of this size or more means that there is no limit (`PAGE_COUNTER_MAX` in bytes).
const UNLIMITED: u64 = 1 << 62;

/// Version of a hierarchy; the names of its files depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// The memory that a group can still allocate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MemoryLeft {
    /// Bytes that can still be allocated.
    pub(super) free: u64,
    /// The limit in bytes.
    pub(super) limit: u64,
    /// Folder of the group.
    pub(super) group: PathBuf,
}

/// Returns the memory that this process can still allocate: the smallest value of its group and all ancestors. Page
/// cache that the kernel can reclaim does not count as used. `root`: the folder of `/proc` and `/sys`.
pub(super) fn memory(root: &Path) -> Option<MemoryLeft> {
    let all = hierarchies(root, "memory").into_iter().flat_map(|(version, top, group)| {
        let applies = |folder: &PathBuf| *folder == group || is_hierarchical(version, folder);
        with_ancestors(&group, &top)
            .filter(applies)
            .filter_map(|folder| memory_left(version, &folder))
            .collect::<Vec<_>>()
    });
    all.min_by_key(|left| left.free)
}

/// Returns the CPU quota of this process, in CPUs (1.5 is one and a half): the smallest of its group and all ancestors.
pub(super) fn cpus(root: &Path) -> Option<f64> {
    let quotas = hierarchies(root, "cpu").into_iter().flat_map(|(version, top, group)| {
        with_ancestors(&group, &top).filter_map(move |folder| quota(version, &folder)).collect::<Vec<_>>()
    });
    quotas.min_by(f64::total_cmp)
}

/// Returns the group and its ancestors, up to `top`.
fn with_ancestors<'p>(group: &'p Path, top: &'p Path) -> impl Iterator<Item = PathBuf> + 'p {
    group.ancestors().take_while(move |folder| folder.starts_with(top)).map(Path::to_owned)
}

/// Returns, for each hierarchy that can have `controller`: its version, its mount point, and the folder of this
/// process's group.
fn hierarchies(root: &Path, controller: &str) -> Vec<(Version, PathBuf, PathBuf)> {
    let read = |file: &str| std::fs::read_to_string(root.join(file)).unwrap_or_default();
    let (groups, mounts) = (read("proc/self/cgroup"), read("proc/self/mountinfo"));
    let mut found = Vec::new();
    for mount in mounts.lines().filter_map(Mount::parse) {
        let version = match mount.kind {
            "cgroup" if mount.options.split(',').any(|option| option == controller) => Version::V1,
            "cgroup2" => Version::V2,
            _ => continue,
        };
        // `ID:CONTROLLERS:PATH`; v2 has no controllers.
        let path = groups.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            let ours = match version {
                Version::V1 => controllers.split(',').any(|name| name == controller),
                Version::V2 => controllers.is_empty(),
            };
            ours.then_some(path)
        });
        let Some(path) = path else { continue };
        let top = root.join(mount.point.trim_start_matches('/'));
        // In a container, the mount may contain only the container's own group. The path then begins with that group,
        // or points outside the visible part.
        let below = Path::new(path).strip_prefix(&mount.root).ok();
        let below =
            below.filter(|below| below.components().all(|part| matches!(part, std::path::Component::Normal(_))));
        let group = below.map_or_else(|| top.clone(), |below| top.join(below));
        found.push((version, top.clone(), if group.is_dir() { group } else { top }));
    }
    found
}

/// The needed fields of a line of `/proc/self/mountinfo`.
struct Mount<'l> {
    /// The mounted folder of the file system.
    root: String,
    /// The mount point.
    point: String,
    kind: &'l str,
    options: &'l str,
}

impl<'l> Mount<'l> {
    /// `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAG]… - KIND SOURCE OPTIONS`
    fn parse(line: &'l str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let mut fields = after.split(' ');
        let kind = fields.next()?;
        Some(Self { root: unescaped(root), point: unescaped(point), kind, options: fields.nth(1).unwrap_or("") })
    }
}

/// Replaces octal escapes: the kernel writes white space and backslashes as three octal digits.
fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (code, character)| text.replace(code, character))
}

/// Returns whether the limit of the group in `folder` applies to its descendants; v1 has a switch for it.
fn is_hierarchical(version: Version, folder: &Path) -> bool {
    let switch = || std::fs::read_to_string(folder.join("memory.use_hierarchy"));
    version == Version::V2 || switch().map_or(true, |text| text.trim() != "0")
}

/// Returns the memory that the group in `folder` can still allocate; `None` if it has no limit.
fn memory_left(version: Version, folder: &Path) -> Option<MemoryLeft> {
    let number = |file: &str| -> Option<u64> { std::fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok() };
    let (limit, used, reclaimable): (_, _, &[&str]) = match version {
        Version::V1 => {
            let limit = number("memory.limit_in_bytes");
            (limit, number("memory.usage_in_bytes")?, &["total_inactive_file", "total_active_file"])
        }
        Version::V2 => {
            // Above `high`, the kernel throttles the group until it frees memory.
            let limit = [number("memory.max"), number("memory.high")].into_iter().flatten().min();
            (limit, number("memory.current")?, &["inactive_file", "active_file", "slab_reclaimable"])
        }
    };
    let limit = limit.filter(|limit| *limit < UNLIMITED)?;
    let stat = std::fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let entries = stat.lines().filter_map(|line| line.split_once(' '));
    let cache =
        entries.filter(|(name, _)| reclaimable.contains(name)).filter_map(|(_, n)| n.trim().parse::<u64>().ok());
    let cache = cache.fold(0, u64::saturating_add);
    Some(MemoryLeft { free: limit.saturating_sub(used.saturating_sub(cache)), limit, group: folder.to_owned() })
}

/// Returns the CPU quota of the group in `folder`; `None` if it has no quota.
fn quota(version: Version, folder: &Path) -> Option<f64> {
    let read = |file: &str| std::fs::read_to_string(folder.join(file)).ok();
    let (quota, period) = match version {
        Version::V1 => (read("cpu.cfs_quota_us")?, read("cpu.cfs_period_us")?),
        Version::V2 => {
            let max = read("cpu.max")?;
            let (quota, period) = max.trim().split_once(' ')?;
            (quota.to_owned(), period.to_owned())
        }
    };
    // `max` (v2) and -1 (v1) mean no quota.
    let (quota, period) = (quota.trim().parse::<u64>().ok()?, period.trim().parse::<u64>().ok()?);
    (period > 0).then(|| quota as f64 / period as f64)
}
