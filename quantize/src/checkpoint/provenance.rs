//! Finds repository, revision and SHA-256s of a checkpoint folder in the files that download tools leave: the shared
//! Hugging Face cache (`models--OWNER--NAME/snapshots/REVISION/FILE` → `blobs/SHA256`) and `hf download --local-dir`
//! (`.cache/huggingface/download/FILE.metadata`). Nothing is hashed here, and there is no network access.

use crate::error::{Code, Error, Result};
use crate::files::{read_if_exists, read_small};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Limit on a `.metadata` file, which has three short lines.
const MAX_BYTES: u64 = 64 << 10;

/// The known origin of a checkpoint. Every field can be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// `owner/name` on the Hub.
    pub repository: Option<String>,
    /// Commit of the repository, 40 hexadecimal digits.
    pub revision: Option<String>,
    /// (file name, SHA-256) of the weight files.
    pub sha256: Vec<(String, String)>,
}

impl Provenance {
    /// Reads the provenance of the folder `dir` and its weight files `names`.
    ///
    /// # Errors
    /// [`Error`] when a file with that information cannot be read.
    pub fn of<'a>(dir: &Path, names: impl Iterator<Item = &'a str>) -> Result<Self> {
        let full = std::fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
        let mut found = Self::default();
        if let [Some(revision), Some("snapshots"), Some(repository)] = ends(&full)
            && let Some((owner, name)) = repository.strip_prefix("models--").and_then(|r| r.split_once("--"))
        {
            found.repository = Some(format!("{owner}/{name}"));
            found.revision = Some(revision.to_owned()).filter(|r| is_hex(r, 40));
        }
        for name in names {
            let link = link(&full.join(name))?;
            let blob = link.as_deref().and_then(Path::file_name).and_then(|n| n.to_str()).map(str::to_owned);
            let metadata = full.join(".cache/huggingface/download").join(format!("{name}.metadata"));
            // three lines: commit, ETag (the SHA-256 of a large file), time
            let lines = read_if_exists(&metadata, lines)?.unwrap_or_default();
            let mut lines = lines.lines();
            if lines.clone().nth(2).is_some_and(|time| is_newer(&full.join(name), time)) {
                continue;
            }
            let commit = lines.next().filter(|c| is_hex(c, 40));
            if found.revision.is_none() {
                found.revision = commit.map(str::to_owned);
            }
            let hash = blob.or_else(|| lines.next().map(str::to_owned)).filter(|h| is_hex(h, 64));
            found.sha256.extend(hash.map(|hash| (name.to_owned(), hash)));
        }
        Ok(found)
    }
}

/// Returns the target of a link; `None` when the file is not a link or does not exist.
fn link(path: &Path) -> Result<Option<PathBuf>> {
    use std::io::ErrorKind::{InvalidInput, NotFound};
    match std::fs::read_link(path) {
        Ok(target) => Ok(Some(target)),
        Err(err) if matches!(err.kind(), InvalidInput | NotFound) => Ok(None),
        Err(err) => Err(Error::io(path, "read the link", &err)),
    }
}

fn lines(path: &Path) -> Result<String> {
    let too_long = |len| {
        Error::new(Code::NotAFile, path, format!("has {len} bytes"), "remove it: no download tool writes such a file")
    };
    read_small(path, MAX_BYTES, too_long).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether a file was modified after its download at `time` (in seconds). As in huggingface_hub's
/// `read_download_metadata`, its metadata is then outdated; one second is tolerated.
fn is_newer(file: &Path, time: &str) -> bool {
    let written = std::fs::metadata(file).and_then(|found| found.modified()).ok();
    let written = written.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
    matches!((written, time.trim().parse::<f64>()), (Some(at), Ok(time)) if at.as_secs_f64() - 1.0 > time)
}

/// Returns the last three components of a path, last first.
fn ends(path: &Path) -> [Option<&str>; 3] {
    let mut parts = path.components().rev().map(|part| part.as_os_str().to_str());
    [(); 3].map(|()| parts.next().flatten())
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::Provenance;

    #[test]
    fn reads_the_shared_cache() {
        let dir = tempfile::tempdir().unwrap();
        let (revision, hash) = ("0123456789".repeat(4), "ab".repeat(32));
        let snapshot = dir.path().join("models--allenai--tulu-2-dpo-13b/snapshots").join(&revision);
        std::fs::create_dir_all(&snapshot).unwrap();
        std::os::unix::fs::symlink(format!("../../blobs/{hash}"), snapshot.join("model.safetensors")).unwrap();
        let found = Provenance::of(&snapshot, ["model.safetensors"].into_iter()).unwrap();
        assert_eq!(found.repository.as_deref(), Some("allenai/tulu-2-dpo-13b"));
        assert_eq!(found.revision, Some(revision));
        assert_eq!(found.sha256, [("model.safetensors".to_owned(), hash)]);
    }

    #[test]
    fn reads_a_download_folder_and_finds_nothing_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let metadata = dir.path().join(".cache/huggingface/download");
        std::fs::create_dir_all(&metadata).unwrap();
        let (revision, hash) = ("9876543210".repeat(4), "cd".repeat(32));
        std::fs::write(metadata.join("a.safetensors.metadata"), format!("{revision}\n{hash}\n17.5\n")).unwrap();
        let found = Provenance::of(dir.path(), ["a.safetensors", "b.safetensors"].into_iter()).unwrap();
        assert_eq!((found.repository, found.revision), (None, Some(revision)));
        assert_eq!(found.sha256, [("a.safetensors".to_owned(), hash)]);
        assert_eq!(Provenance::of(std::path::Path::new("/"), ["x"].into_iter()), Ok(Provenance::default()));
    }
}
