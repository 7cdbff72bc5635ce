//! Split GGUF files: names and opening of all parts. llama-gguf-split and llama.cpp's converter name part 2 of 3 of
//! `x.gguf` `x-00002-of-00003.gguf`, and store the metadata in the first part.

use super::read::Gguf;
use crate::error::{Code, Error, Result};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// The largest number of parts that has a name: five digits.
pub(crate) const MAX_PARTS: u64 = 99_999;

/// Returns the path of part `number` (from 1) of `count` of the file `path`.
pub(crate) fn part_path(path: &Path, number: u64, count: u64) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    if path.extension().is_some_and(|end| end != "gguf") {
        name = path.file_name().unwrap_or_default().to_owned();
    }
    name.push(format!("-{number:05}-of-{count:05}.gguf"));
    path.with_file_name(name)
}

/// Returns the name before `-00002-of-00003`, and both numbers; `None` for another name. `stem` has no `.gguf`.
pub(crate) fn split_stem(stem: &str) -> Option<(&str, u64, u64)> {
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (name, number) = rest.rsplit_once('-')?;
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    if name.is_empty() || !digits(number) || !digits(count) {
        return None;
    }
    Some((name, number.parse().ok()?, count.parse().ok()?))
}

/// Opens `path` and, if it is a part of a split file, all other parts in its folder. Returns them in order.
///
/// # Errors
/// The error of [`Gguf::open`], [`Code::NotFound`] for a missing part, [`Code::Gguf`] when the parts do not belong
/// together.
pub fn open_parts(path: &Path) -> Result<Vec<Gguf>> {
    let given = Gguf::open(path)?;
    let bad = |path: &Path, what: String| Error::new(Code::Gguf, path, what, "download all parts of one file again");
    let Some((number, count)) = given.part().map_err(|what| bad(path, what))? else { return Ok(vec![given]) };
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    let Some((name, ..)) = stem.and_then(split_stem).filter(|(_, n, of)| (*n, *of) == (number, count)) else {
        let what = format!("is part {number} of {count} of a split file");
        let fix = format!("give it a name that ends in -{number:05}-of-{count:05}.gguf, like its other parts");
        return Err(Error::new(Code::Gguf, path, what, fix));
    };
    let whole = path.with_file_name(format!("{name}.gguf"));
    let mut parts = Vec::new();
    for n in 1..=count {
        let other = part_path(&whole, n, count);
        let part = Gguf::open(&other).map_err(|err| match err.code {
            Code::NotFound => {
                let what = format!("is missing: {} is part {number} of {count}", path.display());
                Error::new(Code::NotFound, &other, what, "download all parts into one folder")
            }
            _ => err,
        })?;
        match part.part().map_err(|what| bad(&other, what))? {
            Some(found) if found == (n, count) => parts.push(part),
            Some((n, of)) => return Err(bad(&other, format!("says that it is part {n} of {of}"))),
            None => return Err(bad(&other, "is not a part of a split file".to_owned())),
        }
    }
    check_tensors(&parts).map_err(|what| bad(path, what))?;
    Ok(parts)
}

/// Checks that the parts have together as many tensors as the first says, and none twice.
fn check_tensors(parts: &[Gguf]) -> std::result::Result<(), String> {
    let total: usize = parts.iter().map(|part| part.tensors.len()).sum();
    let stated = parts.first().and_then(|first| first.get("split.tensors.count")).and_then(super::Value::as_u64);
    if let Some(stated) = stated.filter(|stated| u64::try_from(total) != Ok(*stated)) {
        return Err(format!("has {stated} tensors in all parts (split.tensors.count), and they have {total}"));
    }
    let mut seen = HashSet::new();
    match parts.iter().flat_map(|part| &part.tensors).find(|t| !seen.insert(t.name.as_str())) {
        None => Ok(()),
        Some(t) => Err(format!("has the tensor '{}' in two parts", t.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::{part_path, split_stem};
    use std::path::Path;

    #[test]
    fn names_parts_as_llama_gguf_split_does() {
        assert_eq!(part_path(Path::new("a/x-Q4_K_M.gguf"), 2, 13), Path::new("a/x-Q4_K_M-00002-of-00013.gguf"));
        assert_eq!(part_path(Path::new("v2.5"), 1, 2), Path::new("v2.5-00001-of-00002.gguf"));
        assert_eq!(split_stem("x-Q4_K_M-00002-of-00013"), Some(("x-Q4_K_M", 2, 13)));
        for other in ["x", "x-of-00003", "x-2-of-3", "-00001-of-00002", "x-00001-of-0000a"] {
            assert_eq!(split_stem(other), None, "{other}");
        }
    }
}
