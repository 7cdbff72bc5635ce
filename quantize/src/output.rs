//! Output files that are whole or absent.
//!
//! On Linux the file has no name until it is complete (`O_TMPFILE`, then `linkat`): a process killed at any moment leaves
//! nothing behind. Elsewhere, and on filesystems without nameless files, a temporary name in the same folder is used.

use crate::error::{Code, Error, Result};
use std::fs::File;
use std::path::{Path, PathBuf};

/// A file being written for `path`.
#[derive(Debug)]
pub(crate) struct Output {
    path: PathBuf,
    dir: PathBuf,
    replace: bool,
    pending: Pending,
}

#[derive(Debug)]
enum Pending {
    #[cfg(target_os = "linux")]
    Nameless(File),
    Named(tempfile::NamedTempFile),
    /// Under [`Output::part`]'s name, where it stays when the process ends.
    Part(File),
}

/// Where an output that is made by several runs is until it is complete: it has its whole length from the start.
#[must_use]
pub fn part_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(Output::PART);
    name.into()
}

impl Output {
    /// Opens a file of `len` bytes that will become `path`, and reserves its space: a full disk shows now, not later.
    pub(crate) fn create(path: &Path, len: u64, replace: bool) -> Result<Self> {
        let dir = check(path, replace)?;
        let pending = open(&dir)?;
        let output = Self { path: path.to_owned(), dir, replace, pending };
        output.reserve(len)?;
        Ok(output)
    }

    /// How the name of a file ends that is made by several runs, until it is complete.
    pub(crate) const PART: &str = ".tulu-part";

    /// That name.
    pub(crate) fn part(path: &Path) -> PathBuf {
        part_of(path)
    }

    /// As [`Self::create`], under the name of [`Self::part`], so that [`Self::reopen`] finds it.
    pub(crate) fn begin(path: &Path, len: u64, replace: bool) -> Result<Self> {
        let dir = check(path, replace)?;
        Self::forget(path);
        let part = Self::part(path);
        let file = File::options().read(true).write(true).create_new(true).open(&part);
        let file = file.map_err(|err| cannot_create(&dir, &err))?;
        let output = Self { path: path.to_owned(), dir, replace, pending: Pending::Part(file) };
        output.reserve(len).inspect_err(|_| Self::forget(path))?;
        Ok(output)
    }

    /// A file that [`Self::begin`] began, if it is there as it was left; `None` when it has not that length, or has its
    /// own name already.
    pub(crate) fn reopen(path: &Path, len: u64, replace: bool) -> Result<Option<Self>> {
        let part = Self::part(path);
        match std::fs::symlink_metadata(&part) {
            Ok(found) if found.is_file() && found.len() == len => {}
            _ => return Ok(None),
        }
        let dir = check(path, replace)?;
        let file = File::options().read(true).write(true).open(&part);
        let file = file.map_err(|err| Error::io(&part, "open the file", &err))?;
        Ok(Some(Self { path: path.to_owned(), dir, replace, pending: Pending::Part(file) }))
    }

    /// Takes away what [`Self::begin`] began. What cannot be taken away is begun anew by the next run.
    pub(crate) fn forget(path: &Path) {
        drop(std::fs::remove_file(Self::part(path)));
    }

    /// The open file, for positional writes.
    pub(crate) fn file(&self) -> &File {
        match &self.pending {
            #[cfg(target_os = "linux")]
            Pending::Nameless(file) => file,
            Pending::Named(file) => file.as_file(),
            Pending::Part(file) => file,
        }
    }

    /// Where it will be.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn reserve(&self, len: u64) -> Result<()> {
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::{FallocateFlags, fallocate, fstatvfs};
            use rustix::io::Errno;
            let file = self.file();
            let full = |free: u64| {
                let what = format!("needs {len} bytes, {free} are free");
                Error::new(
                    Code::DiskFull,
                    &self.path,
                    what,
                    "free space or choose another disk with -o; nothing was written",
                )
            };
            let free = fstatvfs(file).map_or(u64::MAX, |s| s.f_bavail.saturating_mul(s.f_frsize));
            if free < len {
                return Err(full(free));
            }
            // any other error is a filesystem that cannot reserve (NFS, some FUSE) and still takes the writes
            if let Err(Errno::NOSPC | Errno::DQUOT) = fallocate(file, FallocateFlags::empty(), 0, len) {
                return Err(full(free));
            }
        }
        self.file().set_len(len).map_err(|err| Error::io(&self.path, "set the file's length", &err))
    }

    /// Flushes the bytes to disk. Separate from [`Self::publish`] so that of several outputs none appears before all are
    /// safe.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file().sync_all().map_err(|err| Error::io(&self.path, "flush the file to disk", &err))
    }

    /// Gives the file its name, and makes the name durable.
    pub(crate) fn publish(self) -> Result<()> {
        let Self { path, dir, replace, pending } = self;
        let named = |err: &std::io::Error| match err.kind() {
            std::io::ErrorKind::AlreadyExists => Error::new(
                Code::OutputExists,
                &path,
                "was made by another program meanwhile",
                "pass --force to replace it",
            ),
            _ => Error::io(&path, "give the file its name", err),
        };
        match pending {
            #[cfg(target_os = "linux")]
            Pending::Nameless(file) => link(&file, &dir, &path, replace).map_err(|err| named(&err))?,
            Pending::Named(file) if replace => drop(file.persist(&path).map_err(|err| named(&err.error))?),
            Pending::Named(file) => drop(file.persist_noclobber(&path).map_err(|err| named(&err.error))?),
            Pending::Part(_) if replace => std::fs::rename(Self::part(&path), &path).map_err(|err| named(&err))?,
            Pending::Part(_) => rename_to_free(&Self::part(&path), &path).map_err(|err| named(&err))?,
        }
        #[cfg(unix)]
        File::open(&dir)
            .and_then(|dir| dir.sync_all())
            .map_err(|err| Error::io(&dir, "flush the folder to disk", &err))?;
        Ok(())
    }
}

fn open(dir: &Path) -> Result<Pending> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, Mode, OFlags, openat};
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP | Mode::ROTH | Mode::WOTH;
        if let Ok(fd) = openat(CWD, dir, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode) {
            return Ok(Pending::Nameless(File::from(fd)));
        }
    }
    let named = tempfile::Builder::new().prefix(".tulu-quant-").suffix(".tmp").tempfile_in(dir);
    named.map(Pending::Named).map_err(|err| cannot_create(dir, &err))
}

fn cannot_create(dir: &Path, err: &std::io::Error) -> Error {
    let fix = "create the folder, or choose one that can be written with -o";
    let code = if err.kind() == std::io::ErrorKind::NotFound { Code::NotFound } else { Code::Output };
    Error::new(code, dir, format!("cannot create a file here: {err}"), fix)
}

/// The folder of `path`, which has to be free, or to be replaced.
fn check(path: &Path, replace: bool) -> Result<PathBuf> {
    if path.file_name().is_none() || path.is_dir() {
        return Err(Error::new(Code::Request, path, "is a folder", "give a file name"));
    }
    if !replace && path.symlink_metadata().is_ok() {
        return Err(Error::new(Code::OutputExists, path, "exists", "pass --force to replace it"));
    }
    Ok(match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    })
}

/// Renames to a name that nobody has: the system looks and renames in one step, where it can.
fn rename_to_free(from: &Path, to: &Path) -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS) => {} // a filesystem that cannot
            done => return Ok(done?),
        }
    }
    if to.symlink_metadata().is_ok() {
        return Err(std::io::ErrorKind::AlreadyExists.into());
    }
    std::fs::rename(from, to)
}

/// Links the nameless file to `path`. A link never replaces, so replacing goes through a second name and a rename.
#[cfg(target_os = "linux")]
fn link(file: &File, dir: &Path, path: &Path, replace: bool) -> std::io::Result<()> {
    use rustix::fs::{AtFlags, CWD, linkat};
    use std::os::fd::AsRawFd as _;
    let own = format!("/proc/self/fd/{}", file.as_raw_fd());
    let to = |name: &Path| linkat(CWD, &own, CWD, name, AtFlags::SYMLINK_FOLLOW);
    if !replace {
        return Ok(to(path)?);
    }
    let between = dir.join(format!(".tulu-quant-{}-{}.tmp", std::process::id(), file.as_raw_fd()));
    to(&between)?;
    std::fs::rename(&between, path).inspect_err(|_| drop(std::fs::remove_file(&between)))
}
