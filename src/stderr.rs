//! All output to stderr. Nothing here panics: a closed terminal or pipe must not end a conversion. Lines stay above a
//! visible progress bar.

use crate::progress;
use crate::sanitize::{one_line, visible};
use std::io::Write as _;

/// Prints a note: `tulu-quant: note: TEXT`.
pub(crate) fn note(text: &str) {
    line(&format!("tulu-quant: note: {text}"));
}

/// Prints one line. Line breaks and unsafe characters in `text` are escaped.
pub(crate) fn line(text: &str) {
    write(&format!("{}\n", one_line(text)));
}

/// Prints several lines. Names in them must have passed [`crate::sanitize::one_line`].
pub(crate) fn block(text: &str) {
    write(&visible(text));
}

/// Prints texts of this program with the standard library alone, because the rest of the program may use instructions
/// that the CPU lacks.
pub(crate) fn plain(parts: &[&str]) {
    let mut out = std::io::stderr();
    for part in parts {
        let _ = out.write_all(part.as_bytes());
    }
}

/// Prints lines about a conversation, dimmed.
pub(crate) fn dim(text: &str) {
    write(&format!("{}\n", console::style(visible(text)).for_stderr().dim()));
}

fn write(text: &str) {
    progress::above(|| {
        let mut out = std::io::stderr().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    });
}
