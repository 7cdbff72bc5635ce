//! The names of the output files.

use crate::error::{Code, Failure};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use tulu_quantize::{Ftype, Naming, platform};

/// Returns the file of each type; see the help of `--output`. Names that are not UTF-8 keep their bytes.
pub(super) fn paths(
    output: &Path,
    source: &Path,
    name: &str,
    types: &[Ftype],
) -> Result<Vec<(Ftype, PathBuf)>, Failure> {
    let convention = Naming::of(name).map_or_else(|| name.to_owned(), |naming| naming.file_stem());
    let given = platform::replace(output.as_os_str(), "{name}", &convention);
    let output = Path::new(&given);
    let has_type = given.as_encoded_bytes().windows(6).any(|part| part == b"{type}");
    let is_file = !output.is_dir() && (given.as_encoded_bytes().ends_with(b".gguf") || has_type);
    if is_file && types.len() > 1 && !has_type {
        let what = format!("one file cannot hold {} types", types.len());
        return Err(Failure::input(Code::Request, what, "give a folder, or a name with {type} in it").at(output));
    }
    let folder = source.file_name().filter(|own| own.to_string_lossy() == name);
    let stem = folder.unwrap_or(OsStr::new(name));
    let path = |ftype: &Ftype| {
        if is_file {
            return platform::replace(&given, "{type}", ftype.name()).into();
        }
        let mut file = stem.to_owned();
        file.push(format!("-{ftype}.gguf"));
        output.join(file)
    };
    Ok(types.iter().map(|ftype| (*ftype, path(ftype))).collect())
}
