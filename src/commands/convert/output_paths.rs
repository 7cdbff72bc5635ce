//! The names of the output files.

use crate::error::{Code, Failure};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use tulu_quantize::{Ftype, Naming};

/// Returns the file of each type; see the help of `--output`. Names that are not UTF-8 keep their bytes.
pub(super) fn paths(
    output: &Path,
    source: &Path,
    name: &str,
    types: &[Ftype],
) -> Result<Vec<(Ftype, PathBuf)>, Failure> {
    let convention = Naming::of(name).map_or_else(|| name.to_owned(), |naming| naming.file_stem());
    let given = replaced(output.as_os_str(), "{name}", &convention);
    let output = Path::new(&given);
    let has_type = given.as_bytes().windows(6).any(|part| part == b"{type}");
    let is_file = !output.is_dir() && (given.as_bytes().ends_with(b".gguf") || has_type);
    if is_file && types.len() > 1 && !has_type {
        let what = format!("one file cannot hold {} types", types.len());
        return Err(Failure::input(Code::Request, what, "give a folder, or a name with {type} in it").at(output));
    }
    let folder = source.file_name().filter(|own| own.to_string_lossy() == name);
    let stem = folder.unwrap_or(OsStr::new(name));
    let path = |ftype: &Ftype| {
        if is_file {
            return replaced(&given, "{type}", ftype.name()).into();
        }
        let mut file = stem.to_owned();
        file.push(format!("-{ftype}.gguf"));
        output.join(file)
    };
    Ok(types.iter().map(|ftype| (*ftype, path(ftype))).collect())
}

/// Replaces every `from` in `text`.
fn replaced(text: &OsStr, from: &str, to: &str) -> OsString {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some(byte) = rest.first() {
        match rest.strip_prefix(from.as_bytes()) {
            Some(after) => {
                out.extend_from_slice(to.as_bytes());
                rest = after;
            }
            None => {
                out.push(*byte);
                rest = &rest[1..];
            }
        }
    }
    OsString::from_vec(out)
}
