//! Reads a text for evaluation or calibration.

use super::shipped::Shipped;
use crate::error::{Code, Failure};
use sha2::{Digest as _, Sha256};
use std::io::Read as _;
use std::path::Path;
use tulu_quantize::hex;

/// Largest accepted text: the tokenizer counts bytes in 32 bits.
const MAX_BYTES: u64 = 1 << 30;

/// A text.
#[derive(Clone, Debug)]
pub(crate) struct Corpus {
    /// The path as given, or the name of a text that the program carries.
    pub(crate) name: String,
    /// The text.
    pub(crate) text: String,
}

impl Corpus {
    /// Reads the text of `path`, `-` for stdin; `None`: the text that the program carries. As in llama.cpp's tools, one
    /// newline at the end of a file does not belong to the text.
    ///
    /// # Errors
    /// `IO`; `ENCODING` when it is not UTF-8; `TEXT_TOO_LONG`; `EMPTY`.
    pub(crate) fn read(path: Option<&Path>, shipped: Shipped) -> Result<Self, Failure> {
        let Some(path) = path else {
            return Ok(Self { name: shipped.name().to_owned(), text: without_newline(shipped.text().to_owned()) });
        };
        let mut bytes = Vec::new();
        let read = if path == Path::new("-") {
            std::io::stdin().lock().take(MAX_BYTES + 1).read_to_end(&mut bytes)
        } else {
            std::fs::File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        };
        read.map_err(|err| Failure::io(path, "cannot read the text", &err))?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(Failure::input(Code::TextTooLong, "the text is longer than 1 GiB", "shorten it").at(path));
        }
        let text = String::from_utf8(bytes).map_err(|err| {
            let at = err.utf8_error().valid_up_to();
            Failure::input(Code::Encoding, format!("the text is not UTF-8 at byte {at}"), "save it as UTF-8").at(path)
        })?;
        if text.trim().is_empty() {
            return Err(Failure::input(Code::Empty, "the text is empty", "give a file with text").at(path));
        }
        Ok(Self { name: path.to_string_lossy().into_owned(), text: without_newline(text) })
    }

    /// Returns the SHA-256 of the text in hexadecimal.
    pub(crate) fn sha256(&self) -> String {
        hex(&Sha256::digest(&self.text))
    }
}

fn without_newline(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
    }
    text
}
