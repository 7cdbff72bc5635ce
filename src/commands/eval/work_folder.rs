//! A folder for the files of one run. It is deleted at the end, also after an error or Ctrl-C. A folder that a killed
//! process left is deleted by the next run.

use crate::error::Failure;
use crate::model::{app_dirs, if_exists};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Beginning of the folders' names.
const PREFIX: &str = "run-";
/// End of the name of the file that its process locks, beside the folder.
const LOCK: &str = ".lock";

/// The folder.
#[derive(Debug)]
pub(in super::super) struct WorkFolder {
    path: PathBuf,
    _lock: NamedTempFile,
}

impl WorkFolder {
    /// Creates a folder in the cache, and deletes those that killed processes left.
    pub(in super::super) fn create() -> Result<Self, Failure> {
        Self::create_in(&parent()?)
    }

    fn create_in(parent: &Path) -> Result<Self, Failure> {
        let failed = |err: io::Error| Failure::io(parent, "cannot create a folder for temporary files", &err);
        fs::create_dir_all(parent).map_err(failed)?;
        delete_left(parent)?;
        loop {
            let lock = tempfile::Builder::new().prefix(PREFIX).suffix(LOCK).tempfile_in(parent).map_err(failed)?;
            // Another process may have taken the file for one that was left, before it was locked.
            if lock.as_file().try_lock().is_ok() && lock.path().exists() {
                let path = lock.path().with_extension("");
                fs::create_dir(&path).map_err(failed)?;
                return Ok(Self { path, _lock: lock });
            }
        }
    }

    /// Returns its path.
    pub(in super::super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn parent() -> Result<PathBuf, Failure> {
    Ok(app_dirs::cache_dir()?.join("eval"))
}

/// Deletes folders that killed processes left.
pub(in super::super) fn clean() -> Result<(), Failure> {
    delete_left(&parent()?)
}

fn delete_left(parent: &Path) -> Result<(), Failure> {
    for path in if_exists::list(parent)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with(PREFIX) || !name.ends_with(LOCK) {
            continue;
        }
        // The lock is held until the folder is gone, so that no other process takes it.
        if let Ok(file) = File::open(&path)
            && file.try_lock().is_ok()
        {
            let _ = fs::remove_dir_all(path.with_extension(""));
            let _ = fs::remove_file(&path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{WorkFolder, delete_left};
    use std::fs;

    #[test]
    fn a_folder_in_use_stays_and_one_that_was_left_is_deleted() {
        let parent = tempfile::tempdir().unwrap();
        let left = parent.path().join("run-abc");
        fs::create_dir(&left).unwrap();
        fs::write(left.join("model.gguf"), "x").unwrap();
        fs::write(left.with_extension("lock"), "").unwrap();
        let other = parent.path().join("0011.scores");
        fs::write(&other, "x").unwrap();
        let folder = WorkFolder::create_in(parent.path()).unwrap();
        assert!(!left.exists() && !left.with_extension("lock").exists());
        fs::write(folder.path().join("a.gguf"), "x").unwrap();
        delete_left(parent.path()).unwrap();
        assert!(folder.path().join("a.gguf").exists());
        drop(folder);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
        assert!(other.exists());
    }
}
