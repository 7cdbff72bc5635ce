//! The output files of a conversion: each is complete or absent under its final name.
//!
//! A local conversion writes [`AtomicFile`]s. A streaming conversion writes partial files named `….tulu-part`; they
//! stay when the process ends, so that the next run can resume. All outputs get their final names together, at the end.

use crate::atomic_file::{AtomicFile, folder_of};
use crate::error::{Code, Error, Result};
use crate::platform::{self, Mode};
use crate::space::disk_full;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// An output file that is being written.
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
    /// A partial file, which stays when the process ends.
    Part(File, PathBuf),
}

/// Returns the path of the partial file of a streaming conversion with the single output `path`. The file has its full
/// length from the start. (With several outputs the name also contains a tag, a hash of all their paths.)
#[must_use]
pub fn part_of(path: &Path) -> PathBuf {
    Output::part(path, "")
}

impl Output {
    /// Creates a file of `len` bytes that will become `path`, and reserves its space, to detect a full disk early.
    pub(crate) fn create(path: &Path, len: u64, replace: bool) -> Result<Self> {
        let dir = check(path, replace)?;
        let file = AtomicFile::create(path, Mode::Umask).map_err(|err| cannot_create(&dir, &err))?;
        let output = Self { path: path.to_owned(), dir, replace, pending: Pending::Atomic(file) };
        output.reserve(len)?;
        Ok(output)
    }

    /// Suffix of a partial file's name.
    pub(crate) const PART: &str = ".tulu-part";

    /// Returns the path of the partial file of `path`. `tag` distinguishes conversions that share this output; empty
    /// for a conversion with a single output.
    pub(crate) fn part(path: &Path, tag: &str) -> PathBuf {
        let mut name = path.as_os_str().to_owned();
        if !tag.is_empty() {
            name.push(".");
            name.push(tag);
        }
        name.push(Self::PART);
        name.into()
    }

    /// Like [`Self::create`], but creates the partial file `part`, which [`Self::reopen`] can open later.
    pub(crate) fn begin(path: &Path, part: &Path, len: u64, replace: bool) -> Result<Self> {
        let dir = check(path, replace)?;
        Self::forget(part);
        let file = File::options().read(true).write(true).create_new(true).open(part);
        let file = file.map_err(|err| cannot_create(&dir, &err))?;
        let output = Self { path: path.to_owned(), dir, replace, pending: Pending::Part(file, part.to_owned()) };
        output.reserve(len).inspect_err(|_| Self::forget(part))?;
        Ok(output)
    }

    /// Reopens a partial file of [`Self::begin`]. `None` when it is missing (it may have its final name) or has another
    /// length.
    pub(crate) fn reopen(path: &Path, part: &Path, len: u64, replace: bool) -> Result<Option<Self>> {
        match std::fs::symlink_metadata(part) {
            Ok(found) if found.is_file() && found.len() == len => {}
            Err(err) if err.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io(part, "read the metadata of the file", &err));
            }
            _ => return Ok(None),
        }
        let dir = check(path, replace)?;
        let file = File::options().read(true).write(true).open(part);
        let file = file.map_err(|err| Error::io(part, "open the file", &err))?;
        Ok(Some(Self { path: path.to_owned(), dir, replace, pending: Pending::Part(file, part.to_owned()) }))
    }

    /// Deletes a partial file of [`Self::begin`]. If that fails, the next run restarts it.
    pub(crate) fn forget(part: &Path) {
        drop(std::fs::remove_file(part));
    }

    /// Returns the open file, for positional writes.
    pub(crate) fn file(&self) -> &File {
        match &self.pending {
            Pending::Atomic(file) => file.file(),
            Pending::Part(file, _) => file,
        }
    }

    /// Returns the final path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reserves disk space where the system can; `space.rs` has checked the total of all outputs before.
    fn reserve(&self, len: u64) -> Result<()> {
        platform::reserve(self.file(), len).map_err(|full| disk_full(&self.path, len, full.free))?;
        self.file().set_len(len).map_err(|err| Error::io(&self.path, "set the file's length", &err))
    }

    /// Flushes the file to disk (fsync). Separate from [`publish`], because no output may get its final name before all
    /// are on disk.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file().sync_all().map_err(|err| Error::io(&self.path, "flush the file to disk", &err))
    }

    /// Flushes the data to disk, without metadata such as the modification time (fdatasync).
    pub(crate) fn sync_data(&self) -> Result<()> {
        self.file().sync_data().map_err(|err| Error::io(&self.path, "flush the file to disk", &err))
    }

    /// Renames the file to its final name. Returns how to undo this.
    fn give_name(self) -> Result<Undo> {
        let Self { path, replace, pending, .. } = self;
        let named = |err: &io::Error| match err.kind() {
            io::ErrorKind::AlreadyExists => Error::new(
                Code::OutputExists,
                &path,
                "was created by another program in the meantime",
                "pass --force to replace it",
            ),
            _ => Error::io(&path, "rename the file to its final name", err),
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

/// How to undo a final name.
enum Undo {
    /// Nothing to undo: the replaced file no longer exists, so the new one stays.
    Nothing,
    Remove(PathBuf),
    /// Rename the output to its partial file, which the next run reopens.
    Rename(PathBuf, PathBuf),
}

impl Undo {
    /// Removes the final name. A failure is ignored, because another error is reported.
    fn run(self) {
        match self {
            Self::Nothing => {}
            Self::Remove(path) => drop(std::fs::remove_file(path)),
            Self::Rename(path, part) => drop(std::fs::rename(path, part)),
        }
    }
}

/// Renames all `outputs` to their final names and flushes the folders. If one fails, all final names are removed again,
/// except those of outputs that replaced another file.
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

/// Returns the folder of `path`. Fails if `path` is a folder, or exists and `replace` is false.
fn check(path: &Path, replace: bool) -> Result<PathBuf> {
    if path.file_name().is_none() || path.is_dir() {
        return Err(Error::new(Code::Request, path, "is a folder", "give a file name"));
    }
    match path.symlink_metadata() {
        Ok(_) if !replace => Err(Error::new(Code::OutputExists, path, "exists", "pass --force to replace it")),
        Err(err) if !matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Err(Error::io(path, "read the metadata of the file", &err))
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
        // a partial file is renamed back
        fs::remove_file(&b).unwrap();
        let outputs = [&a, &b].map(|path| Output::begin(path, &part_of(path), 8, false).unwrap()).into();
        fs::write(&b, "another's").unwrap();
        assert_eq!(publish(outputs).unwrap_err().code, Code::OutputExists);
        assert_eq!(names(dir.path()), ["a.gguf.tulu-part", "b.gguf", "b.gguf.tulu-part"]);
    }

    /// A process killed between link and rename leaves such a file.
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
