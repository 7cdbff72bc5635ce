//! Control groups as the kernel shows them: the group of this process and the groups around it, in v1 and in v2. Slurm,
//! systemd and containers set their limits there. Formats: `cgroups(7)`, the kernel's `admin-guide/cgroup-v1/memory.rst` and
//! `admin-guide/cgroup-v2.rst`.

use std::path::{Path, PathBuf};

/// Limits from here up are v1's way to say that there is none (`PAGE_COUNTER_MAX` in bytes).
const UNLIMITED: u64 = 1 << 62;

/// Which hierarchy a group belongs to: their files have other names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// The limit that is nearest: what a group may still take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// Bytes.
    pub(super) free: u64,
    /// The limit in bytes.
    pub(super) limit: u64,
    /// The group's folder.
    pub(super) group: PathBuf,
}

/// What this process may still take of the memory limits of its group and of every group around it; the least of them.
/// Page cache that the kernel can drop is not counted as used. `root`: where `/proc` and `/sys` are, `/` but in tests.
pub(super) fn memory(root: &Path) -> Option<Room> {
    let rooms = hierarchies(root, "memory").into_iter().flat_map(|(version, top, group)| {
        let bounds = |folder: &PathBuf| *folder == group || passes_on(version, folder);
        around(&group, &top).filter(bounds).filter_map(|folder| room(version, &folder)).collect::<Vec<_>>()
    });
    rooms.min_by_key(|room| room.free)
}

/// Processor time that the groups of this process may take, in CPUs (1.5: three halves of one); the least of them.
pub(super) fn cpus(root: &Path) -> Option<f64> {
    let quotas = hierarchies(root, "cpu").into_iter().flat_map(|(version, top, group)| {
        around(&group, &top).filter_map(move |folder| quota(version, &folder)).collect::<Vec<_>>()
    });
    quotas.min_by(f64::total_cmp)
}

/// The group and the groups around it that can be seen, up to `top`.
fn around<'p>(group: &'p Path, top: &'p Path) -> impl Iterator<Item = PathBuf> + 'p {
    group.ancestors().take_while(move |folder| folder.starts_with(top)).map(Path::to_owned)
}

/// Of each hierarchy that may hold `controller`: its version, where it is mounted, and the folder of this process's group.
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
        // A container may see only its own group, mounted as the root; then the path begins with that group, or leads out of
        // what can be seen.
        let below = Path::new(path).strip_prefix(&mount.root).ok();
        let below =
            below.filter(|below| below.components().all(|part| matches!(part, std::path::Component::Normal(_))));
        let group = below.map_or_else(|| top.clone(), |below| top.join(below));
        found.push((version, top.clone(), if group.is_dir() { group } else { top }));
    }
    found
}

/// A line of `/proc/self/mountinfo`, the parts that are needed.
struct Mount<'l> {
    /// The folder of the file system that is mounted.
    root: String,
    /// Where.
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

/// Spaces and the like are written as three octal digits.
fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (code, character)| text.replace(code, character))
}

/// Whether the limit of the group in `folder` holds for the groups in it; v1 has a switch for that.
fn passes_on(version: Version, folder: &Path) -> bool {
    let switch = || std::fs::read_to_string(folder.join("memory.use_hierarchy"));
    version == Version::V2 || switch().map_or(true, |text| text.trim() != "0")
}

/// What the group in `folder` may still take, if it has a limit.
fn room(version: Version, folder: &Path) -> Option<Room> {
    let number = |file: &str| -> Option<u64> { std::fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok() };
    let (limit, used, reclaimable): (_, _, &[&str]) = match version {
        Version::V1 => {
            let limit = number("memory.limit_in_bytes");
            (limit, number("memory.usage_in_bytes")?, &["total_inactive_file", "total_active_file"])
        }
        Version::V2 => {
            // Beyond `high` the kernel slows the group down until it gives memory back.
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
    Some(Room { free: limit.saturating_sub(used.saturating_sub(cache)), limit, group: folder.to_owned() })
}

/// CPUs that the group in `folder` may use, if it has a quota.
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
    // No quota is `max` in v2 and -1 in v1.
    let (quota, period) = (quota.trim().parse::<u64>().ok()?, period.trim().parse::<u64>().ok()?);
    (period > 0).then(|| quota as f64 / period as f64)
}
