//! Writes a GGUF file whose tensors are copied from other GGUF files, byte by byte.

use super::layout::{ALIGNMENT, align};
use super::read::{Gguf, TensorInfo};
use super::value::Value;
use super::write::{TensorEntry, encode_header};
use crate::atomic_file::{AtomicFile, folder_of};
use crate::error::{Code, Error, Result};
use crate::observer::Observer;
use crate::platform::{self, Mode};
use crate::space;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

/// Bytes that are copied between two checks for a request to stop.
const PART: u64 = 64 << 20;

/// A tensor, and the open file that has it.
pub type Place<'a> = (&'a Gguf, &'a TensorInfo);

/// Replaces the file of `gguf` by one with the metadata `pairs` and the same tensors: their bytes and order stay. The file
/// is replaced atomically: after an error, the old one is there.
///
/// # Errors
/// [`Code::DiskFull`], [`Code::Io`]; [`Code::Interrupted`] when the observer cancels.
pub fn replace_pairs(gguf: &Gguf, pairs: &[(String, Value)], observer: &dyn Observer) -> Result<()> {
    let path = &gguf.path;
    space::check(std::iter::once((path.as_path(), gguf.len)))?;
    let failed = |what: &str, err: &io::Error| Error::io(path, what, err);
    let file = AtomicFile::create(path, Mode::Umask).map_err(|err| failed("create a file beside it", &err))?;
    let tensors: Vec<Place<'_>> = gguf.tensors.iter().map(|tensor| (gguf, tensor)).collect();
    write(file.file(), path, pairs, &tensors, observer)?;
    file.commit().map_err(|err| failed("replace the file", &err))?;
    platform::sync_folder(&folder_of(path)).map_err(|err| failed("flush the folder to disk", &err))
}

/// Writes the file at `path` with the metadata `pairs` and these tensors, in this order. An existing file is replaced, and
/// after an error an unfinished one stays: this is for temporary files.
///
/// # Errors
/// [`Code::DiskFull`], [`Code::Io`]; [`Code::Interrupted`] when the observer cancels.
pub fn write_copy(
    path: &Path,
    pairs: &[(String, Value)],
    tensors: &[Place<'_>],
    observer: &dyn Observer,
) -> Result<()> {
    let len = tensors.iter().fold(0_u64, |sum, (_, tensor)| sum.saturating_add(tensor.bytes));
    space::check(std::iter::once((path, len)))?;
    let file = File::create(path).map_err(|err| Error::io(path, "create the file", &err))?;
    write(&file, path, pairs, tensors, observer)
}

/// Writes header and tensors, with the padding that `convert` writes.
fn write(
    mut to: &File,
    path: &Path,
    pairs: &[(String, Value)],
    tensors: &[Place<'_>],
    observer: &dyn Observer,
) -> Result<()> {
    let failed = |err: io::Error| Error::io(path, "write the file", &err);
    let too_large = || Error::new(Code::Request, path, "output size overflows 64 bits", "check the file");
    let (mut entries, mut end) = (Vec::with_capacity(tensors.len()), 0_u64);
    for (_, tensor) in tensors {
        let TensorInfo { name, dims, ggml_type, bytes, .. } = tensor;
        entries.push(TensorEntry { name, dims, ggml_type: *ggml_type, offset: end });
        end = end.checked_add(*bytes).and_then(|end| align(end, ALIGNMENT)).ok_or_else(too_large)?;
    }
    // Offsets are for the default alignment.
    let pairs: Vec<(String, Value)> = pairs.iter().filter(|(key, _)| key != "general.alignment").cloned().collect();
    to.write_all(&encode_header(&pairs, &entries)).map_err(failed)?;
    for (from, tensor) in tensors {
        let mut source = &from.file;
        let unreadable = |err: io::Error| Error::io(&from.path, "copy a tensor", &err);
        source.seek(SeekFrom::Start(tensor.offset)).map_err(unreadable)?;
        let mut left = tensor.bytes;
        while left > 0 {
            if observer.cancelled() {
                return Err(Error::new(Code::Interrupted, path, "stopped", "run it again"));
            }
            // On Linux the system copies; the bytes do not pass through this process.
            let copied = io::copy(&mut source.take(left.min(PART)), &mut to).map_err(failed)?;
            if copied == 0 {
                let what = format!("ended while tensor '{}' was copied", tensor.name);
                return Err(Error::new(Code::InputChanged, &from.path, what, "run it again"));
            }
            left = left.saturating_sub(copied);
            observer.advanced(&tensor.name, copied);
        }
        let padding = align(tensor.bytes, ALIGNMENT).map_or(0, |padded| padded.saturating_sub(tensor.bytes));
        io::copy(&mut io::repeat(0).take(padding), &mut to).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{replace_pairs, write_copy};
    use crate::gguf::{Gguf, TensorEntry, Value, encode_header};
    use crate::observer::Silent;
    use llama_ext::GgmlType;
    use std::fs;
    use std::path::Path;

    /// A file with two F32 tensors of three and five values.
    fn make(path: &Path, first: u8) {
        let pairs = [("general.name".to_owned(), Value::Str("x".to_owned()))];
        let entry = |name, dims, offset| TensorEntry { name, dims, ggml_type: GgmlType::F32, offset };
        let mut bytes = encode_header(&pairs, &[entry("a", &[3], 0), entry("b", &[5], 32)]);
        bytes.extend([first; 12].iter().chain(&[0; 20]).chain(&[first + 1; 20]).chain(&[0; 12]));
        fs::write(path, bytes).unwrap();
    }

    fn tensor(file: &Gguf, index: usize) -> Vec<u8> {
        let t = &file.tensors[index];
        fs::read(&file.path).unwrap()[usize::try_from(t.offset).unwrap()..][..usize::try_from(t.bytes).unwrap()]
            .to_vec()
    }

    #[test]
    fn pairs_are_replaced_and_tensors_keep_their_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gguf");
        make(&path, 1);
        let before = fs::read(&path).unwrap();
        let file = Gguf::open(&path).unwrap();
        replace_pairs(&file, &file.pairs, &Silent).unwrap();
        assert_eq!(fs::read(&path).unwrap(), before);
        let mut pairs = file.pairs.clone();
        pairs.push(("long".to_owned(), Value::Str("y".repeat(1000))));
        replace_pairs(&file, &pairs, &Silent).unwrap();
        let after = Gguf::open(&path).unwrap();
        assert_eq!(after.pairs, pairs);
        assert_eq!([tensor(&after, 0), tensor(&after, 1)], [vec![1; 12], vec![2; 20]]);
        assert_eq!(after.len % 32, 0);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_has_tensors_of_two_files() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b, both] = ["a", "b", "both"].map(|name| folder.path().join(name));
        make(&a, 1);
        make(&b, 11);
        let [one, other] = [&a, &b].map(|path| Gguf::open(path).unwrap());
        write_copy(&both, &one.pairs, &[(&one, &one.tensors[0]), (&other, &other.tensors[1])], &Silent).unwrap();
        let both = Gguf::open(&both).unwrap();
        assert_eq!([tensor(&both, 0), tensor(&both, 1)], [vec![1; 12], vec![12; 20]]);
    }

    struct Cancel;
    impl crate::observer::Observer for Cancel {
        fn cancelled(&self) -> bool {
            true
        }
    }

    #[test]
    fn a_stopped_replacement_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gguf");
        make(&path, 1);
        let before = fs::read(&path).unwrap();
        let file = Gguf::open(&path).unwrap();
        assert_eq!(replace_pairs(&file, &[], &Cancel).unwrap_err().code, crate::error::Code::Interrupted);
        assert_eq!(fs::read(&path).unwrap(), before);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
