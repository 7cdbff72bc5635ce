//! Reads records that are the elements of one JSON array. The array is streamed, and only brackets and strings are
//! scanned, so a malformed element does not affect the others. The formats parse the elements.

use super::record_buffer::RecordBuffer;
use std::io::{self, BufRead};

/// Scans a JSON array; keeps the position between two calls.
#[derive(Debug, Default)]
pub(super) struct JsonArray {
    phase: Phase,
    /// Open brackets within the element.
    depth: u64,
    in_string: bool,
    escaped: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Phase {
    /// Before the `[`.
    #[default]
    Before,
    /// After the `[`: an element or the end follows.
    First,
    /// After a comma: an element follows.
    Next,
    /// In an element.
    Within,
    /// After the `]`.
    After,
}

impl JsonArray {
    /// Reads the next element into `buffer` and returns the line it begins on; `line` is the line of the reader. If the
    /// input is not a JSON array, the error has the kind `InvalidData`.
    pub(super) fn next(
        &mut self,
        reader: &mut impl BufRead,
        buffer: &mut RecordBuffer,
        line: &mut u64,
    ) -> io::Result<Option<u64>> {
        let mut began = *line;
        loop {
            let chunk = reader.fill_buf()?;
            if chunk.is_empty() {
                return if self.phase == Phase::After {
                    Ok(None)
                } else {
                    malformed("the JSON array does not end", *line)
                };
            }
            let (mut consumed, mut from, mut done) = (0, 0, false);
            for byte in chunk {
                consumed += 1;
                let phase = self.phase;
                done = self.advance(*byte, *line)?;
                if done {
                    break;
                }
                *line += u64::from(*byte == b'\n');
                if phase != Phase::Within {
                    (from, began) = (if self.phase == Phase::Within { consumed - 1 } else { consumed }, *line);
                }
            }
            buffer.push(&chunk[from..consumed - usize::from(done)]);
            reader.consume(consumed);
            if done {
                let space = buffer.bytes.iter().rev().take_while(|byte| byte.is_ascii_whitespace()).count();
                buffer.bytes.truncate(buffer.bytes.len() - space);
                return Ok(Some(began));
            }
        }
    }

    /// Scans one byte; returns true if it ends an element.
    fn advance(&mut self, byte: u8, line: u64) -> io::Result<bool> {
        // Windows programs write a byte order mark at the start of a file.
        let space = byte.is_ascii_whitespace() || self.phase == Phase::Before && b"\xef\xbb\xbf".contains(&byte);
        self.phase = match (self.phase, byte) {
            (Phase::Within, _) => return Ok(self.advance_within(byte)),
            (phase, _) if space => phase,
            (Phase::Before, b'[') => Phase::First,
            (Phase::Before, _) => return malformed("not a JSON array", line),
            (Phase::First, b']') => Phase::After,
            (Phase::First | Phase::Next, b',' | b']') => {
                return malformed("an element of the JSON array is missing", line);
            }
            (Phase::First | Phase::Next, _) => {
                self.advance_within(byte);
                Phase::Within
            }
            (Phase::After, _) => return malformed("more follows after the JSON array", line),
        };
        Ok(false)
    }

    /// Scans one byte of an element; returns true if it ends the element.
    fn advance_within(&mut self, byte: u8) -> bool {
        if self.in_string {
            let plain = !std::mem::take(&mut self.escaped);
            self.escaped = plain && byte == b'\\';
            self.in_string = !(plain && byte == b'"');
            return false;
        }
        match byte {
            b',' | b']' if self.depth == 0 => {
                self.phase = if byte == b',' { Phase::Next } else { Phase::After };
                return true;
            }
            b'"' => self.in_string = true,
            b'[' | b'{' => self.depth += 1,
            b']' | b'}' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        false
    }
}

fn malformed<T>(what: &str, line: u64) -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::InvalidData, format!("line {line}: {what}")))
}
