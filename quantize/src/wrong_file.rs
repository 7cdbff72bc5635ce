//! Recognizes a file of the wrong kind by its first bytes: a Git LFS pointer, a server's error page, a zip archive, an
//! old GGML file. The errors explain how to get the right file.

#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::as_conversions))]

use crate::error::{Code, Error};
use crate::platform::read_exact_at;
use std::fs::File;
use std::path::Path;

/// Bytes at the start of a file that are enough to recognize it.
pub(crate) const HEAD: usize = 512;

/// Recognizes the result of a failed download by the first bytes `head` of the file. Returns its description and how to
/// fix it; `None` when it is not recognized.
pub(crate) fn instead(head: &[u8]) -> Option<(&'static str, &'static str)> {
    const AGAIN: &str = "download the file again, with a token if the repository requires one";
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let begins = |with: &str| {
        let with = with.as_bytes();
        head.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with))
    };
    if begins("version https://git-lfs") || begins("version https://hawser") {
        return Some(("is a Git LFS pointer, not the file itself", "fetch the files with git lfs pull"));
    }
    if ["<!doctype html", "<html", "<head", "<?xml", "<error>"].into_iter().any(begins) {
        return Some(("is a web page, not the file itself", AGAIN));
    }
    let messages = ["{\"error\"", "Entry not found", "Access to model", "Invalid username", "Invalid credentials"];
    messages.into_iter().any(begins).then_some(("is an error message of a server, not the file itself", AGAIN))
}

/// A kind of file: first bytes, description, and how to fix it.
type Kind = (&'static [u8], &'static str, &'static str);

const KINDS: &[Kind] = &[
    (b"PK\x03\x04", "is a zip file, as torch.save writes them", "give its folder"),
    (b"lmgg", "is a GGML file from before GGUF", "convert the checkpoint again"),
    (b"fmgg", "is a GGML file from before GGUF", "convert the checkpoint again"),
    (b"tjgg", "is a GGML file from before GGUF", "convert the checkpoint again"),
    (b"algg", "is a LoRA adapter of llama.cpp from before GGUF", "merge the adapter into its model, then convert that"),
    (b"FUGG", "is a big-endian GGUF file", "take the little-endian file of the model, or convert the checkpoint"),
    (b"\x1f\x8b", "is compressed with gzip", "decompress it first"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd", "decompress it first"),
    (b"7z\xbc\xaf", "is compressed with 7-Zip", "decompress it first"),
];

/// The error for `file`, `len` bytes long, whose first bytes are not `GGUF`.
pub(crate) fn not_gguf(path: &Path, file: &File, len: u64) -> Error {
    let mut head = vec![0; HEAD.min(usize::try_from(len).unwrap_or(HEAD))];
    if let Err(err) = read_exact_at(file, &mut head, 0) {
        return Error::io(path, "read the header", &err);
    }
    if let Some((what, fix)) = instead(&head) {
        return Error::new(Code::Gguf, path, what, fix);
    }
    let of_checkpoint = [".json", ".safetensors", ".bin", ".model", ".jinja", ".pt", ".pth"];
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if of_checkpoint.iter().any(|end| name.ends_with(end)) {
        let folder = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let fix = format!("give its folder: {}", folder.display());
        return Error::new(Code::NotAFile, path, "is one file of a checkpoint, not a GGUF file", fix);
    }
    let (what, fix) = kind(&head, len);
    Error::new(Code::Gguf, path, what, fix)
}

/// Describes a file that is not GGUF. Returns the description and how to fix it.
fn kind(head: &[u8], len: u64) -> (&'static str, &'static str) {
    if len == 0 {
        return ("is empty", "download or convert it again");
    }
    if head.iter().all(|byte| *byte == 0) {
        return ("begins with zeros only", "the download or copy is incomplete: repeat it");
    }
    if let Some((_, what, fix)) = KINDS.iter().find(|(begin, ..)| head.starts_with(begin)) {
        return (what, fix);
    }
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    // a safetensors file begins with the length of its JSON header
    if head.get(8) == Some(&b'{') && head.get(5..8).is_some_and(|high| high.iter().all(|byte| *byte == 0)) {
        return ("is a safetensors file", "give its folder");
    }
    match text.first() {
        Some(b'{' | b'[') => ("is a JSON file", "give a .gguf file, or the folder of a checkpoint"),
        _ => ("does not begin with 'GGUF' (byte 0)", "not a GGUF file, or damaged: download or convert it again"),
    }
}

#[cfg(test)]
mod tests {
    use super::{instead, kind};

    #[test]
    fn recognizes_failed_downloads() {
        for (head, expected) in [
            ("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", Some("Git LFS pointer")),
            ("\u{feff}\r\n<!DOCTYPE html><html>", Some("web page")),
            ("<HTML>", Some("web page")),
            ("<?xml version=\"1.0\"?><Error>", Some("web page")),
            ("{\"error\":\"Repository not found\"}", Some("message of a server")),
            ("Entry not found", Some("message of a server")),
            ("{\"model_type\": \"llama\"}", None),
            ("version 2", None),
            ("", None),
        ] {
            let found = instead(head.as_bytes()).map(|(what, _)| what);
            assert_eq!(found.is_some(), expected.is_some(), "{head}");
            assert!(
                expected.is_none_or(|expected| found.is_some_and(|what| what.contains(expected))),
                "{head}: {found:?}"
            );
        }
    }

    #[test]
    fn recognizes_other_kinds_of_files() {
        for (head, word) in [
            (b"\xef\xbb\xbf{\"a\": 1}".as_slice(), "JSON"),
            (b"\x40\x01\0\0\0\0\0\0{\"a\":", "safetensors"),
            (b"PK\x03\x04\0\0", "zip"),
            (b"tjgg\x03\0\0\0", "before GGUF"),
            (b"\0\0\0\0\0\0", "zeros"),
            (b"hello, world", "does not begin with 'GGUF'"),
            (b"", "empty"),
        ] {
            let (what, _) = kind(head, head.len() as u64);
            assert!(what.contains(word), "{head:?}: {what}");
        }
    }
}
