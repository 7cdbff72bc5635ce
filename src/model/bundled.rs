//! The bundled models: the checkpoints in `tests/fixtures/tulu-tiny` and `tests/fixtures/tulu-tiny-draft`, embedded in the
//! binary and converted like any other checkpoint.

use crate::atomic_file::{self, Mode};
use crate::error::Failure;
use std::path::{Path, PathBuf};
use tulu_quantize::hex;

macro_rules! files {
    ($folder:literal) => {
        files![$folder: "config.json", "generation_config.json", "model-00001-of-00002.safetensors",
               "model-00002-of-00002.safetensors", "model.safetensors.index.json", "special_tokens_map.json",
               "tokenizer.model", "tokenizer_config.json"]
    };
    ($folder:literal: $($name:literal),*) => {
        &[$(($name, include_bytes!(concat!("../../tests/fixtures/", $folder, "/", $name)) as &[u8])),*]
    };
}

/// A bundled model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bundle {
    /// The demonstration model.
    Demo,
    /// A smaller model with the same vocabulary, which drafts for it.
    Draft,
}

impl Bundle {
    /// All bundled models.
    pub(crate) const ALL: [Self; 2] = [Self::Demo, Self::Draft];

    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Demo => "tulu-tiny",
            Self::Draft => "tulu-tiny-draft",
        }
    }

    /// Returns the bundled model with this name.
    pub(super) fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bundle| bundle.name() == name)
    }

    /// The files of the checkpoint.
    fn files(self) -> &'static [(&'static str, &'static [u8])] {
        match self {
            Self::Demo => files!("tulu-tiny"),
            Self::Draft => files!("tulu-tiny-draft"),
        }
    }

    /// Returns its name with a short hash of its files, for names in the cache: each version of the program may bundle
    /// another model.
    pub(crate) fn stem(self) -> String {
        format!("{}-{}", self.name(), self.hash())
    }

    fn hash(self) -> String {
        use sha2::Digest as _;
        let mut hash = sha2::Sha256::new();
        for (name, bytes) in self.files() {
            hash.update(name.as_bytes());
            hash.update(bytes);
        }
        hex(&hash.finalize()[..4])
    }

    /// Returns the checkpoint as a folder in the cache; unpacks it the first time, or when a file differs.
    pub(crate) fn folder(self) -> Result<PathBuf, Failure> {
        let parent = super::app_dirs::cache_dir()?.join(format!("demo-{}", self.hash()));
        let dir = parent.join(self.name());
        for (name, wanted) in self.files() {
            if super::if_exists::read(&dir.join(name))?.is_none_or(|found| found != *wanted) {
                return self.unpack(&parent);
            }
        }
        Ok(dir)
    }

    /// Writes the checkpoint into a folder in `parent`, and returns that folder.
    pub(crate) fn unpack(self, parent: &Path) -> Result<PathBuf, Failure> {
        let dir = parent.join(self.name());
        std::fs::create_dir_all(&dir).map_err(|err| Failure::io(&dir, "cannot create the folder", &err))?;
        for (name, bytes) in self.files() {
            let path = dir.join(name);
            atomic_file::write(&path, bytes, Mode::Umask)?;
        }
        Ok(dir)
    }
}
