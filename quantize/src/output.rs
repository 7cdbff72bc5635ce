//! The output files of a conversion: complete under their names, or not there.
//!
//! A conversion of a folder writes [`AtomicFile`]s. A streaming conversion, which can resume, writes files that keep a name of
//! their own (`….tulu-part`) when the process ends. All outputs get their names together, at the end.

use crate::atomic_file::{AtomicFile, folder_of};
use crate::error::{Code, Error, Result};
use crate::platform::{self, Mode};
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
    Atomic(AtomicFile),
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
        let file = AtomicFile::create(path, Mode::Umask).map_err(|err| cannot_create(&dir, &err))?;
        let output = Self { path: path.to_owned(), dir, replace, pending: Pending::Atomic(file) };
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
            Pending::Atomic(file) => file.file(),
            Pending::Part(file, _) => file,
        }
    }

    /// Where it will be.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the space, where the system can; `space.rs` has looked at the sum of all outputs before.
    fn reserve(&self, len: u64) -> Result<()> {
        platform::reserve(self.file(), len).map_err(|full| disk_full(&self.path, len, full.free))?;
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
        let Self { path, replace, pending, .. } = self;
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
            Pending::Atomic(file) => file.rename(replace).map_err(|err| named(&err))?,
            Pending::Part(_, from) => {
                let renamed =
                    if replace { std::fs::rename(&from, &path) } else { platform::rename_no_replace(&from, &path) };
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
            platform::sync_folder(folder).map_err(|err| Error::io(folder, "flush the folder to disk", &err))
        });
    }
    named.inspect_err(|_| names.drain(..).for_each(Undo::run))
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
}
