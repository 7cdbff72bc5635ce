//! Records that are the elements of one JSON array, found without reading all of it: only brackets and strings are looked
//! at, so that an element which is not JSON costs no other one. Whether an element is JSON is for the format to say.

use super::input::Buffer;
use std::io::{self, BufRead};

/// Where in the array the reader is.
#[derive(Debug, Default)]
pub(super) struct Array {
    phase: Phase,
    depth: u64,
    string: bool,
    escape: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Phase {
    /// Before its `[`.
    #[default]
    Before,
    /// After the `[`: an element or the end.
    First,
    /// After a comma: an element.
    Next,
    /// In an element.
    Within,
    /// After its `]`.
    After,
}

impl Array {
    /// Reads the next element into `buffer` and gives the line it begins on; `line` is where the reader is. What is not an
    /// array is an error of the kind `InvalidData`.
    pub(super) fn next(
        &mut self,
        reader: &mut impl BufRead,
        buffer: &mut Buffer,
        line: &mut u64,
    ) -> io::Result<Option<u64>> {
        let mut began = *line;
        loop {
            let chunk = reader.fill_buf()?;
            if chunk.is_empty() {
                return if self.phase == Phase::After {
                    Ok(None)
                } else {
                    broken("the JSON array does not end", *line)
                };
            }
            let (mut taken, mut from, mut done) = (0, 0, false);
            for byte in chunk {
                taken += 1;
                let phase = self.phase;
                done = self.step(*byte, *line)?;
                if done {
                    break;
                }
                *line += u64::from(*byte == b'\n');
                if phase != Phase::Within {
                    (from, began) = (if self.phase == Phase::Within { taken - 1 } else { taken }, *line);
                }
            }
            buffer.push(&chunk[from..taken - usize::from(done)]);
            reader.consume(taken);
            if done {
                let space = buffer.bytes.iter().rev().take_while(|byte| byte.is_ascii_whitespace()).count();
                buffer.bytes.truncate(buffer.bytes.len() - space);
                return Ok(Some(began));
            }
        }
    }

    /// Takes one byte in; true if it ends an element.
    fn step(&mut self, byte: u8, line: u64) -> io::Result<bool> {
        // The byte order mark that Windows puts before a file.
        let space = byte.is_ascii_whitespace() || self.phase == Phase::Before && b"\xef\xbb\xbf".contains(&byte);
        self.phase = match (self.phase, byte) {
            (Phase::Within, _) => return Ok(self.within(byte)),
            (phase, _) if space => phase,
            (Phase::Before, b'[') => Phase::First,
            (Phase::Before, _) => return broken("not a JSON array", line),
            (Phase::First, b']') => Phase::After,
            (Phase::First | Phase::Next, b',' | b']') => {
                return broken("an element of the JSON array is missing", line);
            }
            (Phase::First | Phase::Next, _) => {
                self.within(byte);
                Phase::Within
            }
            (Phase::After, _) => return broken("more follows after the JSON array", line),
        };
        Ok(false)
    }

    fn within(&mut self, byte: u8) -> bool {
        if self.string {
            let plain = !std::mem::take(&mut self.escape);
            self.escape = plain && byte == b'\\';
            self.string = !(plain && byte == b'"');
            return false;
        }
        match byte {
            b',' | b']' if self.depth == 0 => {
                self.phase = if byte == b',' { Phase::Next } else { Phase::After };
                return true;
            }
            b'"' => self.string = true,
            b'[' | b'{' => self.depth += 1,
            b']' | b'}' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        false
    }
}

fn broken<T>(what: &str, line: u64) -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::InvalidData, format!("line {line}: {what}")))
}
