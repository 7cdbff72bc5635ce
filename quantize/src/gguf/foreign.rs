//! What a file is that was given as a GGUF file and is none, so that the way out can be said.

use crate::error::{Code, Error};
use crate::platform::read_exact_at;
use std::fs::File;
use std::path::Path;

/// Bytes looked at.
const LOOKED_AT: usize = 512;

/// How a kind of file begins, what it is, and the way out.
type Kind = (&'static [u8], &'static str, &'static str);

const KINDS: &[Kind] = &[
    (b"PK\x03\x04", "is a zip file, as torch.save writes them", "give the folder that it lies in"),
    (b"lmgg", "is a GGML file from before GGUF", "convert the checkpoint again"),
    (b"fmgg", "is a GGML file from before GGUF", "convert the checkpoint again"),
    (b"tjgg", "is a GGML file from before GGUF", "convert the checkpoint again"),
    (b"algg", "is a LoRA adapter of llama.cpp from before GGUF", "merge the adapter into its model, then convert that"),
    (b"FUGG", "is a big-endian GGUF file", "take the little-endian file of the model, or convert the checkpoint"),
    (b"\x1f\x8b", "is packed with gzip", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "is packed with zstd", "unpack it first"),
    (b"7z\xbc\xaf", "is packed with 7-Zip", "unpack it first"),
];

/// The refusal of `file`, whose first bytes are not `GGUF`.
pub(super) fn refused(path: &Path, file: &File, len: u64) -> Error {
    if let Some(known) = crate::checkpoint::not_gguf(path) {
        return known;
    }
    let mut head = vec![0; LOOKED_AT.min(usize::try_from(len).unwrap_or(LOOKED_AT))];
    if let Err(err) = read_exact_at(file, &mut head, 0) {
        return Error::io(path, "read the header", &err);
    }
    let (what, fix) = kind(&head, len);
    Error::new(Code::Gguf, path, what, fix)
}

fn kind(head: &[u8], len: u64) -> (&'static str, &'static str) {
    if len == 0 {
        return ("is empty", "download or make it again");
    }
    if head.iter().all(|byte| *byte == 0) {
        return ("begins with nothing but zeros", "the download or the copy was cut: make it again");
    }
    if let Some((_, what, fix)) = KINDS.iter().find(|(begin, ..)| head.starts_with(begin)) {
        return (what, fix);
    }
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    // a safetensors file begins with the length of its JSON header
    if head.get(8) == Some(&b'{') && head.get(5..8).is_some_and(|high| high.iter().all(|byte| *byte == 0)) {
        return ("is a safetensors file", "give the folder that it lies in");
    }
    match text.first() {
        Some(b'{' | b'[') => ("is a JSON file", "give a .gguf file, or the folder of a checkpoint"),
        _ => ("does not begin with 'GGUF' (byte 0)", "not a GGUF file, or damaged: make it again"),
    }
}

#[cfg(test)]
mod tests {
    use super::kind;

    #[test]
    fn what_is_no_gguf_file_is_called_by_its_name() {
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
