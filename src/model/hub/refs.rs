//! The commit of a branch or tag at the last request: `refs/REVISION`, a file with 40 hexadecimal digits, in the cache
//! of `huggingface_hub` and in the program's own.

use super::repo_id::is_hex;
use crate::atomic_file::{self, Mode};
use crate::error::Failure;
use crate::model::if_exists;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// Reads the commit of `revision`; `None` when the file is missing or does not contain a commit.
pub(crate) fn read_commit(refs: &Path, revision: &str) -> Result<Option<String>, Failure> {
    let path = refs.join(revision);
    if path.is_dir() {
        return Ok(None);
    }
    let text = if_exists::read(&path)?.map(|text| String::from_utf8_lossy(&text).trim().to_owned());
    Ok(text.filter(|commit| is_hex(commit, 40)))
}

/// Records that `revision` is at `commit`. Git does not allow a branch `v1` next to a branch `v1/x`, so a ref in the
/// way belongs to a deleted branch, and is removed.
pub(crate) fn write_commit(refs: &Path, revision: &str, commit: &str) -> Result<(), Failure> {
    let path = refs.join(revision);
    for part in path.ancestors().skip(1).take_while(|part| part.starts_with(refs) && *part != refs) {
        match fs::symlink_metadata(part) {
            Ok(found) if !found.is_dir() => {
                fs::remove_file(part).map_err(|err| Failure::io(part, "cannot remove an old ref", &err))?;
            }
            _ => {}
        }
    }
    match fs::remove_dir_all(&path) {
        Err(err) if matches!(err.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
        Err(err) => return Err(Failure::io(&path, "cannot remove an old ref", &err)),
        Ok(()) => {}
    }
    atomic_file::write(&path, commit.as_bytes(), Mode::Umask)
}

#[cfg(test)]
mod tests {
    use super::{read_commit, write_commit};

    #[test]
    fn refs_of_deleted_branches_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (refs, [a, b]) = (dir.path(), ["a", "b"].map(|digit| digit.repeat(40)));
        assert_eq!(read_commit(refs, "v1").unwrap(), None);
        for (revision, at, gone) in [("v1", &a, "x"), ("v1/x", &b, "v1"), ("v1/x/y", &a, "v1/x"), ("v1", &b, "v1/x/y")]
        {
            write_commit(refs, revision, at).unwrap();
            assert_eq!(read_commit(refs, revision).unwrap().as_ref(), Some(at), "{revision}");
            assert_eq!(read_commit(refs, gone).unwrap(), None, "{gone}");
        }
        for wrong in ["", "../../../../etc", &"A".repeat(40), &"a".repeat(39)] {
            std::fs::write(refs.join("main"), wrong).unwrap();
            assert_eq!(read_commit(refs, "main").unwrap(), None, "{wrong}");
        }
    }
}
