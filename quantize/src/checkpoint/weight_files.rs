//! [`WeightFiles`], the trait of the weight files of local and remote checkpoints, and its implementation for a local
//! folder. The implementation for remote files is in `streaming/remote.rs`.

use super::provenance::Provenance;
use crate::byte_source::{ByteSource, FileOnDisk};
use crate::error::{Error, Result};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// The weight files of a checkpoint. The small files (config, tokenizer, index) are always local.
pub trait WeightFiles {
    /// Returns the names of all files; dangling links to weights are left out.
    ///
    /// # Errors
    /// [`Error`] when the folder cannot be read.
    fn names(&self) -> Result<Vec<String>>;

    /// Opens the file `name`; errors name it `path`.
    ///
    /// # Errors
    /// [`Error`] when the file does not exist or cannot be read.
    fn open(&self, name: &str, path: &Path) -> Result<Arc<dyn ByteSource>>;

    /// Returns the known origin of the files `names`.
    ///
    /// # Errors
    /// [`Error`] when a file with that information cannot be read.
    fn provenance(&self, names: &[&str]) -> Result<Provenance>;
}

/// The weight files of a local folder.
#[derive(Debug)]
pub(crate) struct Folder<'a>(pub(crate) &'a Path);

impl WeightFiles for Folder<'_> {
    fn names(&self) -> Result<Vec<String>> {
        let failed = |path: &Path, err: io::Error| Error::io(path, "list the folder", &err);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.0).map_err(|err| failed(self.0, err))? {
            let entry = entry.map_err(|err| failed(self.0, err))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // skip dangling links of the shared cache; other files are not checked
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
