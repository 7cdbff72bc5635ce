//! Split files: a model in parts `NAME-00001-of-00003.gguf` …, as llama-gguf-split writes them. The first part has the
//! metadata of the model; each part has some of the tensors.

use super::read::Gguf;
use super::value::Value;
use crate::error::{Code, Error, Result};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Limit on the parts: five digits in the name.
pub(crate) const MAX_PARTS: u64 = 99_999;

impl Gguf {
    /// Opens the file at `path`, and if it is a part of a split file, all parts in its folder. The result has the path
    /// and the metadata of the first part and the tensors of all parts; the offset of a tensor is that in its own part,
    /// and the length is the sum.
    ///
    /// # Errors
    /// Those of [`open_parts`].
    pub fn open_all_parts(path: &Path) -> Result<Self> {
        let (mut whole, others) = open_parts(path)?;
        for part in others {
            whole.len = whole.len.saturating_add(part.len);
            whole.tensors.extend(part.tensors);
        }
        Ok(whole)
    }
}

/// Opens the file at `path`, and if it is a part of a split file, all parts in its folder. Returns the first part, which
/// has the metadata, and the others in order.
///
/// # Errors
/// Those of [`Gguf::open`], and [`Code::Gguf`] when a part is missing or the parts do not belong together.
pub fn open_parts(path: &Path) -> Result<(Gguf, Vec<Gguf>)> {
    let given = Gguf::open(path)?;
    let (paths, part) = (paths(&given)?, given.part().ok().flatten());
    let (Some((_, count)), Some((first, others))) = (part, paths.split_first()) else {
        return Ok((given, Vec::new()));
    };
    let open = |other: &Path, wanted: u64| {
        let part = Gguf::open(other).map_err(|err| match err.code {
            Code::NotFound => {
                let what = format!("is missing: it is part {wanted} of {count} of the model");
                Error::new(Code::Gguf, other, what, "download all parts of the model into one folder")
            }
            _ => err,
        })?;
        if part.part().ok().flatten() != Some((wanted, count)) {
            let what = format!("does not belong to {} as part {wanted} of {count}", first.display());
            return Err(Error::new(Code::Gguf, other, what, "download all parts of the model again"));
        }
        Ok(part)
    };
    let whole = if first == path { given } else { open(first, 1)? };
    let rest = (2..).zip(others).map(|(number, other)| open(other, number)).collect::<Result<Vec<_>>>()?;
    let tensors = || std::iter::once(&whole).chain(&rest).flat_map(|part| &part.tensors);
    let bad = |what: String| Error::new(Code::Gguf, first, what, "download all parts of the model again");
    let mut names = HashSet::new();
    if let Some(twice) = tensors().find(|t| !names.insert(t.name.as_str())) {
        return Err(bad(format!("two parts have the tensor '{}'", twice.name)));
    }
    let (total, stated) = (tensors().count(), whole.get("split.tensors.count").and_then(Value::as_u64));
    match stated.filter(|stated| u64::try_from(total) != Ok(*stated)) {
        Some(stated) => Err(bad(format!("split.tensors.count is {stated}, and all parts have {total} tensors"))),
        None => Ok((whole, rest)),
    }
}

/// Returns the path of part `number` (from 1) of `count` of the file `path`.
pub(crate) fn part_path(path: &Path, number: u64, count: u64) -> PathBuf {
    let is_gguf = path.extension().is_some_and(|end| end == "gguf");
    let stem = if is_gguf { path.file_stem() } else { path.file_name() };
    let mut name = stem.unwrap_or_default().to_owned();
    name.push(format!("-{number:05}-of-{count:05}.gguf"));
    path.with_file_name(name)
}

/// Returns the name before `-00002-of-00003`; `None` for another name. `stem` has no `.gguf`.
pub(crate) fn split_stem(stem: &str) -> Option<&str> {
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (name, number) = rest.rsplit_once('-')?;
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    (!name.is_empty() && digits(number) && digits(count)).then_some(name)
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
    use super::{Gguf, first_part, part_path, split_stem};
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

    #[test]
    fn names_parts_as_llama_gguf_split_does() {
        assert_eq!(part_path(Path::new("a/x-Q4_K_M.gguf"), 2, 13), Path::new("a/x-Q4_K_M-00002-of-00013.gguf"));
        assert_eq!(part_path(Path::new("v2.5"), 1, 2), Path::new("v2.5-00001-of-00002.gguf"));
        assert_eq!(split_stem("x-Q4_K_M-00002-of-00013"), Some("x-Q4_K_M"));
        for other in ["x", "x-of-00003", "x-2-of-3", "-00001-of-00002", "x-00001-of-0000a"] {
            assert_eq!(split_stem(other), None, "{other}");
        }
    }
}
