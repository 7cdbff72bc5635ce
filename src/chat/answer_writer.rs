//! Writes an answer to stdout as it is generated. A model can emit any byte, so a terminal gets only characters that
//! cannot move the cursor, hide text or send commands; a pipe gets everything. Markdown is not rendered.

use crate::error::Failure;
use crate::sanitize::visible;
use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::path::Path;

/// Writes answers to stdout.
#[derive(Debug)]
pub(crate) struct AnswerWriter {
    terminal: bool,
    closed: bool,
    /// For `--json`: text is dropped, because the caller prints the whole answer later.
    silent: bool,
    at_line_start: bool,
}

impl AnswerWriter {
    /// Creates a writer to stdout; `silent` drops the text.
    pub(crate) fn new(silent: bool) -> Self {
        Self { terminal: std::io::stdout().is_terminal(), closed: false, silent, at_line_start: true }
    }

    /// Returns whether the pipe is closed (`| head`), so that generation can stop.
    pub(crate) fn closed(&self) -> bool {
        self.closed
    }

    /// Writes and flushes `text`.
    pub(crate) fn write(&mut self, text: &str) -> Result<(), Failure> {
        if self.silent || self.closed || text.is_empty() {
            return Ok(());
        }
        self.at_line_start = text.ends_with('\n');
        if self.terminal { self.put(&visible(text)) } else { self.put(text) }
    }

    /// Ends the last line, if the answer did not end it.
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

#[cfg(test)]
mod tests {
    use crate::decode::Utf8;
    use crate::sanitize::visible;

    #[test]
    fn plain_text_is_left_alone() {
        for text in ["naïve €😀", "# Title\n\n* a\t`b`\n", "العربية עברית हिन्दी", "👩‍👩‍👧 e\u{301} \u{200f}a"]
        {
            assert_eq!(visible(text), text);
        }
        assert_eq!(visible("a\u{1b}[31mb\r\n\tc\u{7f}\u{9b}d\u{202e}e\u{2066}f\0"), "a[31mb\n\tcdef");
    }

    /// Escape sequences of terminals, as a model could write them.
    const SEQUENCES: [&[u8]; 64] = [
        b"\x1b]52;c;cm0gLXJmIH4=\x07",
        b"\x1b]52;c;cm0gLXJmIH4=\x1b\\",
        b"\x1b]52;p;?\x07",
        b"\xc2\x9d52;c;eA==\xc2\x9c",
        b"\x1b]8;;http://evil.example\x1b\\click\x1b]8;;\x1b\\",
        b"\x1b]8;id=1;file:///etc/passwd\x07x\x1b]8;;\x07",
        b"\x1b]0;title\x07",
        b"\x1b]1;icon\x07",
        b"\x1b]2;title\x1b\\",
        b"\x1b]4;1;rgb:00/00/00\x07",
        b"\x1b]7;file://host/tmp\x07",
        b"\x1b]9;notify\x07",
        b"\x1b]10;?\x07",
        b"\x1b]11;#000000\x07",
        b"\x1b]50;xft:evil\x07",
        b"\x1b]104\x07",
        b"\x1b]133;A\x07",
        b"\x1b]777;notify;a;b\x07",
        b"\x1b]1337;File=name=YQ==;inline=1:AAAA\x07",
        b"\x1b]1337;ClearScrollback\x07",
        b"\x1bP$q\"p\x1b\\",
        b"\x1bP+q544e\x1b\\",
        b"\x1bPtmux;\x1b\x1b]52;c;eA==\x07\x1b\\",
        b"\x1bP1;1|17/61\x1b\\",
        b"\x1bPq#0;2;0;0;0~\x1b\\",
        b"\xc2\x90q#0~\xc2\x9c",
        b"\x1b_Gf=24,s=1,v=1;AAAA\x1b\\",
        b"\x1b_evil\x1b\\",
        b"\x1b^private\x1b\\",
        b"\x1bXstring\x1b\\",
        b"\x1b[6n",
        b"\x1b[5n",
        b"\x1b[c",
        b"\x1b[>c",
        b"\x1b[=c",
        b"\x1b[0x",
        b"\x1b[14t",
        b"\x1b[20t",
        b"\x1b[21t",
        b"\x1b[2J",
        b"\x1b[3J",
        b"\x1b[H",
        b"\x1b[1A\x1b[2K",
        b"\x1b[8m",
        b"\x1b[31;1m",
        b"\x1b[38;2;0;0;0m",
        b"\x1b[?25l",
        b"\x1b[?47h",
        b"\x1b[?1000h",
        b"\x1b[?1049h",
        b"\x1b[?2004l",
        b"\x1b[4i",
        b"\x1b[5i",
        b"\x1b[!p",
        b"\x1bc",
        b"\x1bZ",
        b"\x1b#8",
        b"\x1b(0",
        b"\x1bN\x1bO",
        b"\xc2\x9b2J",
        b"\x9b2J",
        b"\x05\x0e\x0f\x07\x08\x0b\x0c\x7f",
        b"\xe2\x80\xae\xe2\x80\xad\xe2\x80\xaa\xe2\x80\xab\xe2\x80\xac",
        b"\xe2\x81\xa6\xe2\x81\xa7\xe2\x81\xa8\xe2\x81\xa9",
    ];

    /// Returns the text that a terminal gets when `parts` arrive one after the other, as tokens do.
    fn shown(parts: &[&[u8]]) -> String {
        let mut utf8 = Utf8::default();
        let mut all: String = parts.iter().map(|part| visible(&utf8.push(part))).collect();
        all.push_str(&visible(&utf8.finish()));
        all
    }

    fn harmless(text: &str) -> bool {
        let control = |c: char| (c < ' ' && c != '\n' && c != '\t') || ('\u{7f}'..='\u{9f}').contains(&c);
        let bidi = |c: char| ('\u{202a}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c);
        // A stray byte of 0x80 to 0x9f outside a character would be C1 too; a String has none.
        !text.chars().any(|c| control(c) || bidi(c))
    }

    #[test]
    fn no_known_sequence_passes_however_it_is_cut() {
        for sequence in SEQUENCES {
            let text = [b"a ".as_slice(), sequence, b" z".as_slice()].concat();
            let whole = shown(&[&text]);
            assert!(harmless(&whole) && whole.starts_with("a ") && whole.ends_with(" z"), "{text:?}: {whole:?}");
            for at in 0..=text.len() {
                assert_eq!(shown(&[&text[..at], &text[at..]]), whole, "{text:?} cut at {at}");
            }
            let bytes: Vec<&[u8]> = text.chunks(1).collect();
            assert_eq!(shown(&bytes), whole, "{text:?} byte by byte");
        }
    }

    /// 200 strings of random bytes, often those of escape sequences: none passes, and filtering twice changes nothing.
    #[test]
    fn no_random_sequence_passes() {
        let seed = crate::engine::random_seed();
        println!("seed {seed}");
        let mut state = u64::from(seed) | 1;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize
        };
        let likely = b"\x1b\x1b[]P_^\\;?0123mnqJhHlAt\x07\x08\r\x9b\x90\x9d\x9c\xc2\xe2\x80\xae\xaa\x81\xa6\xf3\xa0";
        for _ in 0..200 {
            let text: Vec<u8> = (0..64)
                .map(|_| match next() % 4 {
                    0 => (next() % 256) as u8,
                    _ => likely[next() % likely.len()],
                })
                .collect();
            let whole = shown(&[&text]);
            assert!(harmless(&whole), "{text:?}: {whole:?}");
            assert_eq!(visible(&whole), whole);
            let (a, b) = text.split_at(next() % text.len());
            assert_eq!(shown(&[a, b]), whole, "{text:?}");
        }
    }
}
