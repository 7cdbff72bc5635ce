//! Where a checkpoint folder came from, as far as the folder itself tells: the shared Hugging Face cache
//! (`models--OWNER--NAME/snapshots/REVISION/FILE` → `blobs/SHA256`) and `hf download --local-dir`
//! (`.cache/huggingface/download/FILE.metadata`) both keep repository or revision and the hash of every large file.
//! Nothing is hashed here and nothing is asked of the network.

use crate::error::{Code, Error, Result};
use crate::files::{if_there, read_small};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A file of the download folder has three short lines.
const MAX_BYTES: u64 = 64 << 10;

/// What is known; all of it may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// `owner/name` on the Hub.
    pub repository: Option<String>,
    /// Commit of the repository, 40 hexadecimal digits.
    pub revision: Option<String>,
    /// (file, sha256) of the weight files.
    pub sha256: Vec<(String, String)>,
}

impl Provenance {
    /// Reads what the folder `dir` tells about its weight files `names`.
    ///
    /// # Errors
    /// [`Error`] when a file that tells it cannot be read.
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
            let kept = full.join(".cache/huggingface/download").join(format!("{name}.metadata"));
            // three lines: commit, etag (the sha256 of a large file), time
            let lines = if_there(&kept, lines)?.unwrap_or_default();
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

/// Where a link leads; `None` when the file is no link, or not there.
fn link(path: &Path) -> Result<Option<PathBuf>> {
    use std::io::ErrorKind::{InvalidInput, NotFound};
    match std::fs::read_link(path) {
        Ok(target) => Ok(Some(target)),
        Err(err) if matches!(err.kind(), InvalidInput | NotFound) => Ok(None),
        Err(err) => Err(Error::io(path, "read the link", &err)),
    }
}

fn lines(path: &Path) -> Result<String> {
    let too_long =
        |len| Error::new(Code::NotAFile, path, format!("has {len} bytes"), "remove it: no download writes it");
    read_small(path, MAX_BYTES, too_long).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether a file was written after it was downloaded at `time`, in seconds. huggingface_hub takes what it noted of such a
/// file for outdated too (`read_download_metadata`, which allows a second).
fn is_newer(file: &Path, time: &str) -> bool {
    let written = std::fs::metadata(file).and_then(|found| found.modified()).ok();
    let written = written.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
    matches!((written, time.trim().parse::<f64>()), (Some(at), Ok(time)) if at.as_secs_f64() - 1.0 > time)
}

/// The last three parts of a path, last first.
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
    fn the_shared_cache_tells_repository_revision_and_hashes() {
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
    fn a_download_folder_tells_revision_and_hashes_and_a_plain_one_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let kept = dir.path().join(".cache/huggingface/download");
        std::fs::create_dir_all(&kept).unwrap();
        let (revision, hash) = ("9876543210".repeat(4), "cd".repeat(32));
        std::fs::write(kept.join("a.safetensors.metadata"), format!("{revision}\n{hash}\n17.5\n")).unwrap();
        let found = Provenance::of(dir.path(), ["a.safetensors", "b.safetensors"].into_iter()).unwrap();
        assert_eq!((found.repository, found.revision), (None, Some(revision)));
        assert_eq!(found.sha256, [("a.safetensors".to_owned(), hash)]);
        assert_eq!(Provenance::of(std::path::Path::new("/"), ["x"].into_iter()), Ok(Provenance::default()));
    }
}
