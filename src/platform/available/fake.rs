//! A fake `/proc` and `/sys` for tests.

use std::path::Path;
use tempfile::TempDir;

/// A folder with files like those in a machine's root folder.
pub(crate) struct Tree {
    dir: TempDir,
    groups: String,
    mounts: String,
}

impl Tree {
    /// An empty folder.
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), groups: String::new(), mounts: String::new() }
    }

    /// Its path.
    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    /// Adds a file.
    pub(crate) fn file(self, path: &str, text: &str) -> Self {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    /// Adds a cgroup2 hierarchy at `/sys/fs/cgroup`, with this process in `group`.
    pub(crate) fn v2(self, group: &str) -> Self {
        self.mounted(
            "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate",
            &format!("0::{group}"),
        )
    }

    /// Adds a v1 hierarchy of `controllers` at `/sys/fs/cgroup/CONTROLLERS`, of which `mount_root` is mounted.
    pub(crate) fn v1(self, controllers: &str, mount_root: &str, group: &str) -> Self {
        let mount = format!("35 31 0:32 {mount_root} /sys/fs/cgroup/{controllers} rw - cgroup cgroup rw,{controllers}");
        self.mounted(&mount, &format!("4:{controllers}:{group}"))
    }

    /// Adds a line of `/proc/self/mountinfo` and of `/proc/self/cgroup`.
    pub(crate) fn mounted(mut self, mount: &str, group: &str) -> Self {
        self.mounts += &format!("{mount}\n");
        self.groups += &format!("{group}\n");
        let (mounts, groups) = (self.mounts.clone(), self.groups.clone());
        self.file("proc/self/mountinfo", &mounts).file("proc/self/cgroup", &groups)
    }
}
