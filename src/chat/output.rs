//! Where an answer goes: stdout, piece by piece. A model can emit any byte, so a terminal is shown only characters that
//! cannot move the cursor, hide text or talk to the terminal; a pipe gets everything.

use crate::error::Failure;
use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::path::Path;

/// stdout.
#[derive(Debug)]
pub(crate) struct Output {
    terminal: bool,
    closed: bool,
    /// For `--json`: the answer is printed whole, later, by someone else.
    silent: bool,
    at_line_start: bool,
}

impl Output {
    /// stdout as it is; `silent` swallows the text.
    pub(crate) fn new(silent: bool) -> Self {
        Self { terminal: std::io::stdout().is_terminal(), closed: false, silent, at_line_start: true }
    }

    /// Whether the reader has gone (`| head`): nothing more needs to be computed.
    pub(crate) fn closed(&self) -> bool {
        self.closed
    }

    /// Shows `text` at once.
    pub(crate) fn write(&mut self, text: &str) -> Result<(), Failure> {
        if self.silent || self.closed || text.is_empty() {
            return Ok(());
        }
        self.at_line_start = text.ends_with('\n');
        if self.terminal { self.put(&visible(text)) } else { self.put(text) }
    }

    /// Ends the line that an answer left open.
    pub(crate) fn end_line(&mut self) -> Result<(), Failure> {
        if self.at_line_start { Ok(()) } else { self.write("\n") }
    }

    fn put(&mut self, text: &str) -> Result<(), Failure> {
        let mut stdout = std::io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Err(err) if err.kind() == ErrorKind::BrokenPipe => self.closed = true,
            Err(err) => return Err(Failure::io(Path::new("stdout"), "cannot write the answer", &err)),
            Ok(()) => {}
        }
        Ok(())
    }
}

/// `text` without control characters (C0 but newline and tab, DEL, C1) and without the marks that reorder text.
fn visible(text: &str) -> String {
    let bidi = |c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().filter(|c| matches!(c, '\n' | '\t') || !(c.is_control() || bidi(*c))).collect()
}

#[cfg(test)]
mod tests {
    use super::visible;

    #[test]
    fn a_terminal_is_never_sent_control_characters() {
        assert_eq!(visible("a\u{1b}[31mb\r\n\tc\u{7f}\u{9b}d\u{202e}e\u{2066}f\0"), "a[31mb\n\tcdef");
        assert_eq!(visible("naïve €😀"), "naïve €😀");
    }
}
