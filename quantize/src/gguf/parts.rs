//! Split files: a model in parts `NAME-00001-of-00003.gguf` …, as llama-gguf-split writes them. The first part has the
//! metadata of the model; each part has some of the tensors.

use super::read::Gguf;
use crate::error::{Code, Error, Result};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Limit on the parts: five digits in the name.
const MAX_PARTS: u64 = 99_999;

impl Gguf {
    /// Opens the file at `path`, and if it is a part of a split file, all parts in its folder. The result has the path
    /// and the metadata of the first part and the tensors of all parts; the offset of a tensor is that in its own part,
    /// and the length is the sum.
    ///
    /// # Errors
    /// Those of [`Gguf::open`], and [`crate::Code::Gguf`] when a part is missing or does not belong to the others.
    pub fn open_all_parts(path: &Path) -> Result<Self> {
        let given = Self::open(path)?;
        let paths = paths(&given)?;
        let Some((first, others)) = paths.split_first().filter(|(_, others)| !others.is_empty()) else {
            return Ok(given);
        };
        let mut whole = if first == path { given } else { Self::open(first)? };
        let count = whole.part().ok().flatten().map(|(_, of)| of);
        for (number, other) in (2..).zip(others) {
            let part = Self::open(other).map_err(|err| match err.code {
                Code::NotFound => {
                    let what = format!("is missing: it is part {number} of {} of the model", paths.len());
                    Error::new(Code::Gguf, other, what, "put all parts of the model into one folder")
                }
                _ => err,
            })?;
            if part.part().ok().flatten() != count.map(|of| (number, of)) {
                let what = format!("does not belong to {}", first.display());
                return Err(Error::new(Code::Gguf, other, what, "download all parts of the model again"));
            }
            whole.len = whole.len.saturating_add(part.len);
            whole.tensors.extend(part.tensors);
        }
        let mut names = HashSet::new();
        if let Some(twice) = whole.tensors.iter().find(|t| !names.insert(t.name.as_str())) {
            let what = format!("two parts have the tensor '{}'", twice.name);
            return Err(Error::new(Code::Gguf, first, what, "download all parts of the model again"));
        }
        Ok(whole)
    }
}

/// Returns the path of the first part of a split file, and `path` itself for any other GGUF file.
///
/// # Errors
/// Those of [`Gguf::open_all_parts`].
pub fn first_part(path: &Path) -> Result<PathBuf> {
    Ok(paths(&Gguf::open(path)?)?.into_iter().next().unwrap_or_else(|| path.to_owned()))
}

/// Returns the paths of all parts in order. A file that is not split has one.
///
/// # Errors
/// [`crate::Code::Gguf`] when the file does not have the name of its part.
pub fn paths(gguf: &Gguf) -> Result<Vec<PathBuf>> {
    let bad = |what: String, fix: &str| Error::new(Code::Gguf, &gguf.path, what, fix);
    let part = gguf.part().map_err(|what| bad(what, "download the file again"))?;
    let Some((number, count)) = part else { return Ok(vec![gguf.path.clone()]) };
    let of = |number: u64| format!("-{number:05}-of-{count:05}.gguf");
    let name = gguf.path.file_name().and_then(OsStr::to_str);
    match name.and_then(|name| name.strip_suffix(&of(number))) {
        Some(prefix) if count <= MAX_PARTS => {
            Ok((1..=count).map(|n| gguf.path.with_file_name(format!("{prefix}{}", of(n)))).collect())
        }
        _ => {
            let what = format!("is part {number} of {count} of a split file; its name must end in {}", of(number));
            Err(bad(what, "give every part the name that it had; llama-gguf-split --merge joins them"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Gguf, first_part};
    use crate::gguf::{Value, encode_header};
    use std::path::Path;

    fn write(path: &Path, no: u16, count: u16) {
        let pairs = [("split.no".to_owned(), Value::U16(no)), ("split.count".to_owned(), Value::U16(count))];
        std::fs::write(path, encode_header(&pairs, &[])).unwrap();
    }

    #[test]
    fn parts_are_found_by_their_names() {
        let dir = tempfile::tempdir().unwrap();
        let path = |n: u32| dir.path().join(format!("m-{n:05}-of-00002.gguf"));
        write(&path(1), 0, 2);
        let missing = Gguf::open_all_parts(&path(1)).unwrap_err();
        assert_eq!(missing.file, path(2));
        write(&path(2), 1, 2);
        for given in [path(1), path(2)] {
            assert_eq!(Gguf::open_all_parts(&given).unwrap().path, path(1));
            assert_eq!(first_part(&given).unwrap(), path(1));
        }
        write(&path(2), 0, 2);
        assert!(Gguf::open_all_parts(&path(1)).unwrap_err().what.contains("does not belong to"));
        let renamed = dir.path().join("m.gguf");
        write(&renamed, 1, 2);
        assert!(first_part(&renamed).unwrap_err().what.contains("-00002-of-00002.gguf"));
    }
}
