//! GGUF files in the program's cache. `.sums/` holds the length and a hash of each. A damaged file is created again,
//! because the user cannot repair it.

use super::if_exists;
use super::{fingerprint, lock};
use crate::atomic_file::{self, Mode};
use crate::error::{Code, Failure};
use crate::interrupt::Interrupt;
use crate::sanitize::shown;
use crate::stderr;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use tulu_quantize::gguf::Gguf;
use tulu_quantize::hex;
use tulu_quantize::{Class, Error};

/// Files up to this length are hashed completely, larger ones by samples, so that the check at each start is fast.
const MAX_FULL_HASH: u64 = 64 << 20;

/// Calls `make` to create the file at `path` if it is missing or damaged, or if `refresh` is set. Only one process at a
/// time creates it; the others wait and use its file.
pub(crate) fn ensure(
    path: &Path,
    refresh: bool,
    interrupt: &Interrupt,
    make: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    if !refresh && is_intact(path)? {
        return Ok(());
    }
    let does = format!("is making {}", shown(path));
    let lock = lock::wait(&lock_file(path)?, &does, interrupt, &|err| {
        let fix = "set TULU_QUANT_CACHE to a folder that you can write to";
        Failure::machine(Code::Cache, format!("cannot lock the model in the cache: {err}"), fix).at(path)
    })?;
    if (!refresh || lock.waited) && is_intact(path)? {
        return Ok(());
    }
    if !refresh && if_exists::metadata(path)?.is_some() {
        stderr::note(&format!("{} is damaged; creating it again", shown(path)));
    }
    make()?;
    atomic_file::write(&checksum_file(path)?, checksum(path)?.to_string().as_bytes(), Mode::Umask)
}

/// Returns whether the file exists and matches its recorded checksum. Without a checksum, only the header is checked.
pub(crate) fn is_intact(path: &Path) -> Result<bool, Failure> {
    if !if_exists::metadata(path)?.is_some_and(|found| found.is_file()) {
        return Ok(false);
    }
    match if_exists::read(&checksum_file(path)?)? {
        Some(known) => match serde_json::from_slice::<Value>(&known) {
            Ok(known) => Ok(known == checksum(path)?),
            Err(_) => Ok(false),
        },
        None => match Gguf::open(path) {
            Ok(_) => Ok(true),
            Err(Error { code, .. }) if code.class() == Class::Input => Ok(false),
            Err(err) => Err(err.into()),
        },
    }
}

/// Returns the path of the checksum file of a cached file: `.sums/…` in the cache.
pub(crate) fn checksum_file(path: &Path) -> Result<PathBuf, Failure> {
    companion(path, "sum")
}

/// Returns the path of the lock file of a cached file: `.locks/…` in the cache.
pub(crate) fn lock_file(path: &Path) -> Result<PathBuf, Failure> {
    companion(path, "lock")
}

/// Returns the path of a file that belongs to a cached file. Its name is a hash of the cached file's path.
fn companion(path: &Path, what: &str) -> Result<PathBuf, Failure> {
    let cache = super::app_dirs::cache_dir()?;
    let name = path.strip_prefix(&cache).unwrap_or(path);
    let digest = Sha256::digest(name.as_os_str().as_encoded_bytes());
    Ok(cache.join(format!(".{what}s")).join(format!("{}.{what}", hex(&digest[..8]))))
}

fn checksum(path: &Path) -> Result<Value, Failure> {
    let io = |err: std::io::Error| Failure::io(path, "cannot read the model", &err);
    let mut file = File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    if size > MAX_FULL_HASH {
        return fingerprint(path);
    }
    let mut all = Vec::new();
    file.read_to_end(&mut all).map_err(io)?;
    let hash = Sha256::new_with_prefix(&all);
    Ok(json!({"bytes": size, "sha256": hex(&hash.finalize())}))
}
