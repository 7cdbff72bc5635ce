//! Output files that are whole or absent.
//!
//! On Linux the file has no name until it is complete (`O_TMPFILE`, then `linkat`): a process killed at any moment leaves
//! nothing behind. Elsewhere, and on filesystems without nameless files, a temporary name in the same folder is used.

use crate::error::{Code, Error, Result};
#[cfg(target_os = "linux")]
use crate::space::disk_full;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
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
    /// Under a name of its own, where it stays when the process ends.
    Part(File, PathBuf),
}

/// Where an output that is made by several runs is until it is complete: it has its whole length from the start. This is
/// the name when a conversion has one output; with several, their number and names are in it too.
#[must_use]
pub fn part_of(path: &Path) -> PathBuf {
    Output::part(path, "")
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

    /// That name; `tag` tells apart conversions that have this output in common.
    pub(crate) fn part(path: &Path, tag: &str) -> PathBuf {
        let mut name = path.as_os_str().to_owned();
        if !tag.is_empty() {
            name.push(".");
            name.push(tag);
        }
        name.push(Self::PART);
        name.into()
    }

    /// As [`Self::create`], under the name `part`, so that [`Self::reopen`] finds it.
    pub(crate) fn begin(path: &Path, part: &Path, len: u64, replace: bool) -> Result<Self> {
        let dir = check(path, replace)?;
        Self::forget(part);
        let file = File::options().read(true).write(true).create_new(true).open(part);
        let file = file.map_err(|err| cannot_create(&dir, &err))?;
        let output = Self { path: path.to_owned(), dir, replace, pending: Pending::Part(file, part.to_owned()) };
        output.reserve(len).inspect_err(|_| Self::forget(part))?;
        Ok(output)
    }

    /// A file that [`Self::begin`] began, if it is there as it was left; `None` when it has not that length, or has its
    /// own name already.
    pub(crate) fn reopen(path: &Path, part: &Path, len: u64, replace: bool) -> Result<Option<Self>> {
        match std::fs::symlink_metadata(part) {
            Ok(found) if found.is_file() && found.len() == len => {}
            Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(Error::io(part, "look at the file", &err)),
            _ => return Ok(None),
        }
        let dir = check(path, replace)?;
        let file = File::options().read(true).write(true).open(part);
        let file = file.map_err(|err| Error::io(part, "open the file", &err))?;
        Ok(Some(Self { path: path.to_owned(), dir, replace, pending: Pending::Part(file, part.to_owned()) }))
    }

    /// Takes away what [`Self::begin`] began. What cannot be taken away is begun anew by the next run.
    pub(crate) fn forget(part: &Path) {
        drop(std::fs::remove_file(part));
    }

    /// The open file, for positional writes.
    pub(crate) fn file(&self) -> &File {
        match &self.pending {
            #[cfg(target_os = "linux")]
            Pending::Nameless(file) => file,
            Pending::Named(file) => file.as_file(),
            Pending::Part(file, _) => file,
        }
    }

    /// Where it will be.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the space, where the system can; `space.rs` has looked at the sum of all outputs before.
    fn reserve(&self, len: u64) -> Result<()> {
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::{FallocateFlags, fallocate, fstatvfs};
            use rustix::io::Errno;
            let file = self.file();
            // any other error is a filesystem that cannot reserve (NFS, some FUSE) and still takes the writes
            if let Err(Errno::NOSPC | Errno::DQUOT) = fallocate(file, FallocateFlags::empty(), 0, len) {
                let free = fstatvfs(file).map_or(0, |s| s.f_bavail.saturating_mul(s.f_frsize));
                return Err(disk_full(&self.path, len, free));
            }
        }
        self.file().set_len(len).map_err(|err| Error::io(&self.path, "set the file's length", &err))
    }

    /// Flushes the bytes to disk. Separate from [`publish`] so that of several outputs none appears before all are safe.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file().sync_all().map_err(|err| Error::io(&self.path, "flush the file to disk", &err))
    }

    /// Flushes what was written so far. The length stays, so this leaves out what only says when the file was written.
    pub(crate) fn sync_data(&self) -> Result<()> {
        self.file().sync_data().map_err(|err| Error::io(&self.path, "flush the file to disk", &err))
    }

    /// Gives the file its name; the answer is how to take the name away again.
    fn give_name(self) -> Result<Undo> {
        let Self { path, dir, replace, pending } = self;
        let named = |err: &io::Error| match err.kind() {
            io::ErrorKind::AlreadyExists => Error::new(
                Code::OutputExists,
                &path,
                "was made by another program meanwhile",
                "pass --force to replace it",
            ),
            _ => Error::io(&path, "give the file its name", err),
        };
        let had_one = replace && path.symlink_metadata().is_ok();
        let mut part = None;
        match pending {
            #[cfg(target_os = "linux")]
            Pending::Nameless(file) => link(&file, &dir, &path, replace).map_err(|err| named(&err))?,
            Pending::Named(file) if replace => drop(file.persist(&path).map_err(|err| named(&err.error))?),
            Pending::Named(file) => drop(file.persist_noclobber(&path).map_err(|err| named(&err.error))?),
            Pending::Part(_, from) => {
                let renamed = if replace { std::fs::rename(&from, &path) } else { rename_to_free(&from, &path) };
                renamed.map_err(|err| named(&err))?;
                part = Some(from);
            }
        }
        Ok(if had_one {
            Undo::Nothing
        } else {
            part.map_or(Undo::Remove(path.clone()), |part| Undo::Rename(path, part))
        })
    }
}

/// How a name is taken away again.
enum Undo {
    /// The file that had the name before is gone, so the new one stays.
    Nothing,
    Remove(PathBuf),
    /// To the name that the next run looks for.
    Rename(PathBuf, PathBuf),
}

impl Undo {
    /// What cannot be taken away stays: there is another error to report.
    fn run(self) {
        match self {
            Self::Nothing => {}
            Self::Remove(path) => drop(std::fs::remove_file(path)),
            Self::Rename(path, part) => drop(std::fs::rename(path, part)),
        }
    }
}

/// Gives all `outputs` their names, and makes the names durable. When one cannot have its name, none has, but for those
/// that replaced another file.
pub(crate) fn publish(outputs: Vec<Output>) -> Result<()> {
    let mut names = Vec::with_capacity(outputs.len());
    let folders: BTreeSet<PathBuf> = outputs.iter().map(|output| output.dir.clone()).collect();
    let mut named = outputs.into_iter().try_for_each(|output| output.give_name().map(|undo| names.push(undo)));
    if named.is_ok() {
        named = folders.iter().try_for_each(|folder| {
            let synced = sync_folder(folder);
            synced.map_err(|err| Error::io(folder, "flush the folder to disk", &err))
        });
    }
    named.inspect_err(|_| names.drain(..).for_each(Undo::run))
}

/// Makes the names in a folder durable, where the filesystem can do that: SMB and some FUSE filesystems cannot, and a
/// folder that may be written and not read cannot be opened.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    if synced.as_ref().is_err_and(is_not_possible) { Ok(()) } else { synced }
}

/// A folder cannot be flushed.
#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

/// Whether the error says that something cannot be done here at all, and not that it failed.
#[cfg(unix)]
fn is_not_possible(err: &io::Error) -> bool {
    use rustix::io::Errno;
    let cannot = [Errno::INVAL, Errno::NOTSUP, Errno::OPNOTSUPP, Errno::NOSYS, Errno::ACCESS];
    Errno::from_io_error(err).is_some_and(|errno| cannot.contains(&errno))
}

fn open(dir: &Path) -> Result<Pending> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, Mode, OFlags, openat};
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP | Mode::ROTH | Mode::WOTH;
        if let Ok(fd) = openat(CWD, dir, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode) {
            let file = File::from(fd);
            // the name is given through /proc, which a chroot or a hardened container may lack
            if std::fs::metadata(path_of(&file)).is_ok() {
                return Ok(Pending::Nameless(file));
            }
        }
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix(".tulu-quant-").suffix(".tmp");
    // as any new file: what the umask leaves
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let named = builder.tempfile_in(dir);
    named.map(Pending::Named).map_err(|err| cannot_create(dir, &err))
}

fn cannot_create(dir: &Path, err: &io::Error) -> Error {
    let fix = "create the folder, or choose one that can be written with -o";
    let code = if err.kind() == io::ErrorKind::NotFound { Code::NotFound } else { Code::Output };
    Error::new(code, dir, format!("cannot create a file here: {err}"), fix)
}

/// The folder of `path`, which has to be free, or to be replaced.
fn check(path: &Path, replace: bool) -> Result<PathBuf> {
    if path.file_name().is_none() || path.is_dir() {
        return Err(Error::new(Code::Request, path, "is a folder", "give a file name"));
    }
    match path.symlink_metadata() {
        Ok(_) if !replace => Err(Error::new(Code::OutputExists, path, "exists", "pass --force to replace it")),
        Err(err) if !matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Err(Error::io(path, "look at the file", &err))
        }
        _ => Ok(folder_of(path)),
    }
}

pub(crate) fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Renames to a name that nobody has: the system looks and renames in one step, where it can.
fn rename_to_free(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_vendor = "apple"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {} // a filesystem that cannot
            done => return Ok(done?),
        }
    }
    if to.symlink_metadata().is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    std::fs::rename(from, to)
}

/// Names of a link that is there for a moment; those that a killed process left may be in the way.
#[cfg(target_os = "linux")]
const BETWEEN: u32 = 1000;

/// Links the nameless file to `path`. A link never replaces, so replacing goes through a second name and a rename.
#[cfg(target_os = "linux")]
fn link(file: &File, dir: &Path, path: &Path, replace: bool) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, linkat};
    use rustix::io::Errno;
    use std::os::fd::AsRawFd as _;
    let own = path_of(file);
    let to = |name: &Path| linkat(CWD, &own, CWD, name, AtFlags::SYMLINK_FOLLOW);
    if !replace {
        return Ok(to(path)?);
    }
    let ours = format!(".tulu-quant-{}-{}", std::process::id(), file.as_raw_fd());
    let mut names = (0..BETWEEN).map(|number| dir.join(format!("{ours}-{number}.tmp")));
    let between = names.find_map(|name| match to(&name) {
        Err(Errno::EXIST) => None,
        done => Some(done.map(|()| name)),
    });
    let between = between.ok_or(io::ErrorKind::AlreadyExists)??;
    std::fs::rename(&between, path).inspect_err(|_| drop(std::fs::remove_file(&between)))
}

/// What an open file is called, whether it has a name or not.
#[cfg(target_os = "linux")]
fn path_of(file: &File) -> String {
    use std::os::fd::AsRawFd as _;
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::{Output, part_of, publish};
    use crate::error::Code;
    use std::fs;
    use std::path::Path;

    fn names(dir: &Path) -> Vec<String> {
        let mut all: Vec<_> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        all.sort();
        all
    }

    #[test]
    fn when_one_of_several_cannot_have_its_name_none_has() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = ["a.gguf", "b.gguf"].map(|name| dir.path().join(name));
        let outputs = [&a, &b].map(|path| Output::create(path, 8, false).unwrap()).into();
        fs::write(&b, "another's").unwrap();
        assert_eq!(publish(outputs).unwrap_err().code, Code::OutputExists);
        assert_eq!(names(dir.path()), ["b.gguf"]);
        // one that several runs make has its other name again
        fs::remove_file(&b).unwrap();
        let outputs = [&a, &b].map(|path| Output::begin(path, &part_of(path), 8, false).unwrap()).into();
        fs::write(&b, "another's").unwrap();
        assert_eq!(publish(outputs).unwrap_err().code, Code::OutputExists);
        assert_eq!(names(dir.path()), ["a.gguf.tulu-part", "b.gguf", "b.gguf.tulu-part"]);
    }

    /// A process that was killed between the link and the rename leaves such a name.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_name_that_a_killed_process_left_is_in_nobodys_way() {
        let dir = tempfile::tempdir().unwrap();
        for descriptor in 0..64 {
            let left = format!(".tulu-quant-{}-{descriptor}-0.tmp", std::process::id());
            fs::write(dir.path().join(left), "left").unwrap();
        }
        let path = dir.path().join("a.gguf");
        fs::write(&path, "old").unwrap();
        publish(vec![Output::create(&path, 8, true).unwrap()]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), [0; 8]);
        assert_eq!(names(dir.path()).len(), 65);
    }

    #[cfg(unix)]
    #[test]
    fn what_a_filesystem_cannot_do_is_told_from_what_failed() {
        use rustix::io::Errno;
        for (errno, cannot) in [
            (Errno::INVAL, true),
            (Errno::OPNOTSUPP, true),
            (Errno::NOSYS, true),
            (Errno::ACCESS, true),
            (Errno::IO, false),
            (Errno::NOSPC, false),
        ] {
            assert_eq!(super::is_not_possible(&errno.into()), cannot, "{errno}");
        }
    }
}
