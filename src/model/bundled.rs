//! The demonstration model: the checkpoint in `tests/fixtures/tulu-tiny`, embedded in the binary and converted like any
//! other checkpoint.

use crate::atomic_file::{self, Mode};
use crate::error::Failure;
use std::path::{Path, PathBuf};
use tulu_quantize::hex;

/// The name of the model.
pub(crate) const NAME: &str = "tulu-tiny";

macro_rules! files {
    ($($name:literal),*) => {
        [$(($name, include_bytes!(concat!("../../tests/fixtures/tulu-tiny/", $name)).as_slice())),*]
    };
}

/// The files of the checkpoint.
const FILES: [(&str, &[u8]); 8] = files![
    "config.json",
    "generation_config.json",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.safetensors.index.json",
    "special_tokens_map.json",
    "tokenizer.model",
    "tokenizer_config.json"
];

/// Returns a short hash of the bundled checkpoint, for names in the cache: each version of the program may bundle
/// another one.
pub(crate) fn bundle_hash() -> String {
    use sha2::Digest as _;
    let mut hash = sha2::Sha256::new();
    for (name, bytes) in FILES {
        hash.update(name.as_bytes());
        hash.update(bytes);
    }
    hex(&hash.finalize()[..4])
}

/// Returns the checkpoint as a folder in the cache; unpacks it the first time, or when a file differs.
pub(crate) fn folder() -> Result<PathBuf, Failure> {
    let parent = super::app_dirs::cache_dir()?.join(format!("demo-{}", bundle_hash()));
    let dir = parent.join(NAME);
    for (name, wanted) in FILES {
        if super::if_exists::read(&dir.join(name))?.is_none_or(|found| found != wanted) {
            return unpack(&parent);
        }
    }
    Ok(dir)
}

/// Writes the checkpoint into `parent/tulu-tiny`, and returns that folder.
pub(crate) fn unpack(parent: &Path) -> Result<PathBuf, Failure> {
    let dir = parent.join(NAME);
    std::fs::create_dir_all(&dir).map_err(|err| Failure::io(&dir, "cannot create the folder", &err))?;
    for (name, bytes) in FILES {
        let path = dir.join(name);
        atomic_file::write(&path, bytes, Mode::Umask)?;
    }
    Ok(dir)
}
