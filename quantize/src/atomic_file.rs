//! Atomic writes: a file is complete or absent. Steps: temporary file in the same folder, fsync, rename, fsync of the
//! folder. On Linux the temporary file is unnamed, so a killed process leaves no file; elsewhere its name is
//! `.tulu-quant-….tmp`.

use crate::platform::{self, Mode};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// A temporary file that will become [`AtomicFile::path`]. Dropping it without [`AtomicFile::commit`] deletes it.
#[derive(Debug)]
pub struct AtomicFile {
    path: PathBuf,
    temporary: Temporary,
}

#[derive(Debug)]
enum Temporary {
    Unnamed(File),
    Named(NamedTempFile),
}

impl AtomicFile {
    /// Creates an empty temporary file in the folder of `path`. The folder must exist.
    ///
    /// # Errors
    /// The system's error.
    pub fn create(path: &Path, mode: Mode) -> io::Result<Self> {
        match platform::create_unnamed(&folder_of(path), mode) {
            Some(file) => Ok(Self { path: path.to_owned(), temporary: Temporary::Unnamed(file) }),
            None => Self::create_named(path, mode),
        }
    }

    /// Like [`AtomicFile::create`], but the temporary file has a name ([`AtomicFile::temporary_path`]), so that other
    /// code can open it.
    ///
    /// # Errors
    /// The system's error.
    pub fn create_named(path: &Path, mode: Mode) -> io::Result<Self> {
        let temporary = Temporary::Named(platform::temp_file(&folder_of(path), mode)?);
        Ok(Self { path: path.to_owned(), temporary })
    }

    /// Returns the final path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the temporary path; `None` for an unnamed file.
    #[must_use]
    pub fn temporary_path(&self) -> Option<&Path> {
        match &self.temporary {
            Temporary::Unnamed(_) => None,
            Temporary::Named(file) => Some(file.path()),
        }
    }

    /// Returns the open file.
    #[must_use]
    pub fn file(&self) -> &File {
        match &self.temporary {
            Temporary::Unnamed(file) => file,
            Temporary::Named(file) => file.as_file(),
        }
    }

    /// Flushes the file to disk, renames it to its final name and flushes the folder. An existing file is replaced.
    ///
    /// # Errors
    /// The system's error. After an error in the last step, the complete file has its final name.
    pub fn commit(self) -> io::Result<()> {
        self.file().sync_all()?;
        let folder = folder_of(&self.path);
        self.rename(true)?;
        platform::sync_folder(&folder)
    }

    /// Renames the file to its final name, without any flush. For several files that appear together; use
    /// [`AtomicFile::commit`] for one file.
    ///
    /// # Errors
    /// `AlreadyExists` when the final path exists and `replace` is false, or the system's error.
    pub(crate) fn rename(self, replace: bool) -> io::Result<()> {
        let Self { path, temporary } = self;
        match temporary {
            Temporary::Unnamed(file) => platform::name(&file, &folder_of(&path), &path, replace),
            Temporary::Named(file) if replace => file.persist(&path).map(drop).map_err(|err| err.error),
            Temporary::Named(file) => file.persist_noclobber(&path).map(drop).map_err(|err| err.error),
        }
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file().flush()
    }
}

/// Writes `bytes` to `path` atomically; creates its folder when that is missing, and replaces an existing file.
///
/// # Errors
/// The system's error.
pub fn write(path: &Path, bytes: &[u8], mode: Mode) -> io::Result<()> {
    std::fs::create_dir_all(folder_of(path))?;
    let mut file = AtomicFile::create(path, mode)?;
    file.write_all(bytes)?;
    file.commit()
}

/// Returns the folder of `path`: `.` for a file name without a folder.
#[must_use]
pub fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::{AtomicFile, write};
    use crate::platform::Mode;
    use std::fs;
    use std::io::Write as _;

    #[test]
    fn a_file_appears_complete_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/file");
        write(&path, b"one", Mode::Umask).unwrap();
        for create in [AtomicFile::create, AtomicFile::create_named] {
            let mut file = create(&path, Mode::Owner).unwrap();
            file.write_all(b"half").unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"one");
            drop(file);
            assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
            let mut file = create(&path, Mode::Owner).unwrap();
            file.write_all(b"two").unwrap();
            file.commit().unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"two");
            assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
            write(&path, b"one", Mode::Umask).unwrap();
        }
    }

    #[cfg(unix)]
    #[test]
    fn the_mode_says_who_may_read() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for create in [AtomicFile::create, AtomicFile::create_named] {
            for (mode, group_and_others) in [(Mode::Owner, 0), (Mode::Umask, 0o044)] {
                create(&path, mode).unwrap().commit().unwrap();
                let bits = fs::metadata(&path).unwrap().permissions().mode();
                // 0666 without the bits of the umask, 022 or 077.
                assert_eq!(bits & 0o777 & !group_and_others, 0o600, "{bits:o}");
                let plain = folder.path().join("plain");
                fs::write(&plain, "").unwrap();
                let usual = fs::metadata(&plain).unwrap().permissions().mode();
                assert!(mode == Mode::Owner || bits == usual, "{bits:o} {usual:o}");
            }
        }
    }
}
