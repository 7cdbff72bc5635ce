//! Everything that the program says on stderr. Nothing here panics: a terminal that is gone, or a closed pipe, must not
//! end a conversion that is complete. What is said stays above a progress bar that is being drawn.

use crate::progress;
use crate::sanitize::{one_line, visible};
use std::io::Write as _;

/// One line about the work: `tulu-quant: note: TEXT`.
pub(crate) fn note(text: &str) {
    line(&format!("tulu-quant: note: {text}"));
}

/// One line. Line breaks in `text` are escaped.
pub(crate) fn line(text: &str) {
    write(&format!("{}\n", one_line(text)));
}

/// Several lines, as they are; names in them must have gone through [`crate::sanitize::one_line`].
pub(crate) fn block(text: &str) {
    write(&visible(text));
}

/// Parts of a text of ours, by nothing but the standard library's own code: the rest of this program may use instructions
/// that the CPU lacks.
pub(crate) fn plain(parts: &[&str]) {
    let mut out = std::io::stderr();
    for part in parts {
        let _ = out.write_all(part.as_bytes());
    }
}

/// Lines about a conversation, in their own shade.
pub(crate) fn dim(text: &str) {
    write(&format!("{}\n", console::style(visible(text)).for_stderr().dim()));
}

fn write(text: &str) {
    progress::above(|| {
        let mut out = std::io::stderr().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    });
}
