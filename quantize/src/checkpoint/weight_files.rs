//! The weight files of a checkpoint by their names: those of a folder here, those of a server in `arrive/`.

use super::provenance::Provenance;
use crate::byte_source::{ByteSource, FileOnDisk};
use crate::error::{Error, Result};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// The weight files of a checkpoint by their names. The small files beside them are always on this disk.
pub trait WeightFiles {
    /// Names of all files there are; a link whose target is gone is none.
    ///
    /// # Errors
    /// [`Error`] when the folder cannot be read.
    fn names(&self) -> Result<Vec<String>>;

    /// Opens the one called `name`; `path` is what errors call it.
    ///
    /// # Errors
    /// [`Error`] when there is no such file, or none that can be read.
    fn open(&self, name: &str, path: &Path) -> Result<Arc<dyn ByteSource>>;

    /// Where `names` come from, as far as is known.
    ///
    /// # Errors
    /// [`Error`] when what tells it cannot be read.
    fn provenance(&self, names: &[&str]) -> Result<Provenance>;
}

/// The weight files of a folder on this disk.
#[derive(Debug)]
pub(crate) struct Folder<'a>(pub(crate) &'a Path);

impl WeightFiles for Folder<'_> {
    fn names(&self) -> Result<Vec<String>> {
        let failed = |path: &Path, err: io::Error| Error::io(path, "look into the folder", &err);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.0).map_err(|err| failed(self.0, err))? {
            let entry = entry.map_err(|err| failed(self.0, err))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // a link of the shared cache whose file is gone is no file; what are no weights is nobody's concern here
            let is_weights = [".safetensors", ".bin"].iter().any(|end| name.ends_with(end));
            if !is_weights || entry.path().try_exists().map_err(|err| failed(&entry.path(), err))? {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn open(&self, _name: &str, path: &Path) -> Result<Arc<dyn ByteSource>> {
        Ok(Arc::new(FileOnDisk::open(path)?))
    }

    fn provenance(&self, names: &[&str]) -> Result<Provenance> {
        Provenance::of(self.0, names.iter().copied())
    }
}
